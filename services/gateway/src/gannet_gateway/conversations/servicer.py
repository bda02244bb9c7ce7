"""ConversationService on the wire."""

from typing import Any

from google.protobuf.empty_pb2 import Empty

from gannet.gateway.v1 import conversations_pb2, conversations_pb2_grpc
from gannet_gateway.conversations import wire
from gannet_gateway.ledger.conversations import Conversations
from gannet_gateway.ledger.ledger import Ledger
from gannet_gateway.names import parse_collection, parse_conversation
from gannet_gateway.owner import owner
from gannet_gateway.paging import page_size, read_token, write_token
from gannet_service.errors import InvalidInput


class ConversationServicer(conversations_pb2_grpc.ConversationServiceServicer):
    """See conversations.proto."""

    def __init__(self, ledger: Ledger, conversations: Conversations) -> None:
        self._ledger = ledger
        self._conversations = conversations

    def add_to(self, server: Any) -> None:
        """Serve it."""
        conversations_pb2_grpc.add_ConversationServiceServicer_to_server(self, server)

    async def CreateConversation(  # noqa: N802
        self, request: conversations_pb2.CreateConversationRequest, context: Any
    ) -> conversations_pb2.Conversation:
        del context
        parent = parse_collection(request.parent, "parent")
        title = wire.check_title(request.conversation.title)
        return wire.from_conversation(await self._conversations.create(parent, owner(), title))

    async def GetConversation(  # noqa: N802
        self, request: conversations_pb2.GetConversationRequest, context: Any
    ) -> conversations_pb2.Conversation:
        del context
        name = parse_conversation(request.name, "name")
        return wire.from_conversation(await self._conversations.get(name, owner()))

    async def ListConversations(  # noqa: N802
        self, request: conversations_pb2.ListConversationsRequest, context: Any
    ) -> conversations_pb2.ListConversationsResponse:
        del context
        parent = parse_collection(request.parent, "parent")
        await self._ledger.collection_settings(parent)
        scope = f"{parent}/conversations"
        after = read_token(scope, request.page_token)
        page = await self._conversations.list(parent, owner(), after=after, limit=page_size(request.page_size))
        return conversations_pb2.ListConversationsResponse(
            conversations=[wire.from_conversation(conversation) for conversation in page.items],
            next_page_token=write_token(scope, page.next_after),
        )

    async def DeleteConversation(  # noqa: N802
        self, request: conversations_pb2.DeleteConversationRequest, context: Any
    ) -> Empty:
        del context
        await self._conversations.delete(parse_conversation(request.name, "name"), owner())
        return Empty()

    async def ListTurns(  # noqa: N802
        self, request: conversations_pb2.ListTurnsRequest, context: Any
    ) -> conversations_pb2.ListTurnsResponse:
        del context
        name = parse_conversation(request.parent, "parent")
        await self._conversations.get(name, owner())
        scope = f"{name}/turns"
        after = read_token(scope, request.page_token)
        if after and not after.isdecimal():
            raise InvalidInput("page_token: not one that this server gave", field="page_token")
        page = await self._conversations.turns(name, after=int(after or 0), limit=page_size(request.page_size))
        return conversations_pb2.ListTurnsResponse(
            turns=[wire.from_turn(turn) for turn in page.items],
            next_page_token=write_token(scope, page.next_after),
        )
