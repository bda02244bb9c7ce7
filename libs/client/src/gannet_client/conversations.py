"""`GannetClient.conversations`: what was asked and answered, kept by the server."""

from collections.abc import AsyncGenerator, Callable

from gannet.gateway.v1 import conversations_pb2
from gannet.gateway.v1.conversations_pb2_grpc import ConversationServiceStub
from gannet_client import answer_types, wire
from gannet_client.transport import Transport

PAGE_SIZE = 500


class Conversations:
    """Conversations of the caller's user over a collection, given by id or name. Every call takes `timeout_s` and raises `GannetError`."""

    def __init__(self, transport: Transport, limit: Callable[[float | None], float]) -> None:
        self._transport = transport
        self._limit = limit
        self._stub = ConversationServiceStub(transport.channel)

    async def create(
        self, collection: str, *, title: str = "", timeout_s: float | None = None
    ) -> answer_types.Conversation:
        """Begin a conversation."""
        request = conversations_pb2.CreateConversationRequest(
            parent=wire.collection_name(collection), conversation=conversations_pb2.Conversation(title=title)
        )
        made = await self._transport.unary(self._stub.CreateConversation, request, self._limit(timeout_s))
        return wire.conversation(made)

    async def list(
        self, collection: str, *, timeout_s: float | None = None
    ) -> AsyncGenerator[answer_types.Conversation]:
        """All conversations; `timeout_s` is for each page."""
        token = ""
        while True:
            request = conversations_pb2.ListConversationsRequest(
                parent=wire.collection_name(collection), page_size=PAGE_SIZE, page_token=token
            )
            page = await self._transport.unary(self._stub.ListConversations, request, self._limit(timeout_s))
            for message in page.conversations:
                yield wire.conversation(message)
            token = page.next_page_token
            if not token:
                return

    async def turns(self, name: str, *, timeout_s: float | None = None) -> AsyncGenerator[answer_types.Turn]:
        """What was asked and answered, oldest first; `timeout_s` is for each page."""
        token = ""
        while True:
            request = conversations_pb2.ListTurnsRequest(parent=name, page_size=PAGE_SIZE, page_token=token)
            page = await self._transport.unary(self._stub.ListTurns, request, self._limit(timeout_s))
            for message in page.turns:
                yield wire.turn(message)
            token = page.next_page_token
            if not token:
                return

    async def delete(self, name: str, *, timeout_s: float | None = None) -> None:
        """Remove a conversation with its turns."""
        request = conversations_pb2.DeleteConversationRequest(name=name)
        await self._transport.unary(self._stub.DeleteConversation, request, self._limit(timeout_s))
