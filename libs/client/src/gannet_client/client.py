"""`GannetClient`: every call of the gateway, typed, with deadlines and retries."""

from __future__ import annotations  # grpc's classes are generic in their stubs only

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sequence
from types import TracebackType
from typing import Self

import grpc

from gannet.gateway.v1 import answer_pb2, documents_pb2, feedback_pb2, search_pb2
from gannet.gateway.v1.answer_pb2_grpc import AnswerServiceStub
from gannet.gateway.v1.collections_pb2_grpc import CollectionServiceStub
from gannet.gateway.v1.documents_pb2_grpc import DocumentServiceStub
from gannet.gateway.v1.feedback_pb2_grpc import FeedbackServiceStub
from gannet.gateway.v1.search_pb2_grpc import SearchServiceStub
from gannet_client import answer_types, answers, search_types, search_wire, types, wire
from gannet_client.collections import CollectionCalls
from gannet_client.conversations import Conversations
from gannet_client.errors import Conflict, GannetError
from gannet_client.health import health
from gannet_client.jobs import Jobs
from gannet_client.sources import Sources
from gannet_client.tenants import Tenants
from gannet_client.transport import RetryPolicy, Transport
from gannet_client.upload import upload
from gannet_client.webhooks import Webhooks

DEFAULT_TARGET = "127.0.0.1:7700"
DEFAULT_TIMEOUT_S = 30.0
ACK_TIMEOUT_S = 120.0
PAGE_SIZE = 500


class GannetClient(CollectionCalls):
    """A connection to a gateway; an async context manager, safe to share between tasks of one event loop.

    Collections are given by id ("docs") or name ("tenants/-/collections/docs"), documents by name (see `document_name`). Every
    call takes `timeout_s` and raises `GannetError`. Calls that the server could not take are repeated with growing pauses
    within that time, streams only before their first message. A change that was repeated may have been made by an
    earlier attempt: `create_collection` then says AlreadyExists, a delete NotFound.
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        api_key: str | None = None,
        tls: grpc.ChannelCredentials | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retry: RetryPolicy | None = None,
        user: str = "",
        groups: Sequence[str] = (),
    ) -> None:
        """Prepare a connection; nothing is connected yet. Make it inside a running event loop.

        Args:
            target: "host:port", or any other gRPC target.
            api_key: sent with every call.
            tls: `grpc.ssl_channel_credentials(...)`; None talks in the clear, which is meant for loopback.
            timeout_s: deadline of a call that is given none.
            retry: how calls are repeated.
            user: whom every call is made for, where the key may act for others; empty is the key's own.
            groups: that user's groups.

        Raises:
            InvalidInput: the API key cannot be sent.
        """
        self._transport = Transport(
            target, api_key=api_key, credentials=tls, retry=retry or RetryPolicy(), user=user, groups=groups
        )
        self._timeout_s = timeout_s
        channel = self._transport.channel
        self._search = SearchServiceStub(channel)
        self._answers = AnswerServiceStub(channel)
        self._documents = DocumentServiceStub(channel)
        self._collections = CollectionServiceStub(channel)
        self.tenants = Tenants(self._transport, timeout_s)
        self.jobs = Jobs(self._transport, timeout_s)
        self._feedback = FeedbackServiceStub(channel)
        self.conversations = Conversations(self._transport, self._limit)
        self.sources = Sources(self._transport, timeout_s)
        self.webhooks = Webhooks(self._transport, timeout_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Cancel what is in flight and disconnect."""
        await self._transport.channel.close()

    async def search(
        self,
        collection: str,
        query: str,
        options: search_types.SearchOptions | None = None,
        *,
        paging_depth: int = 0,
        page_token: str = "",
        generation: int = 0,
        max_staleness_s: float = 0.0,
        timeout_s: float | None = None,
    ) -> search_types.SearchResult:
        """Find the best passages of a collection.

        Args:
            collection: where.
            query: what.
            options: how.
            paging_depth: how many passages the pages of `top_k` go through; 0 is one page.
            page_token: an earlier result's `next_page_token`; all else must be as it was.
            generation: search the collection as it was then; 0 is the latest.
            max_staleness_s: let the result be of a state that was the latest so long ago, 0 to 60; it comes faster then.
            timeout_s: deadline.
        """
        request = search_pb2.SearchRequest(
            parent=wire.collection_name(collection),
            query=query,
            options=None if options is None else search_wire.search_options(options),
            paging_depth=paging_depth,
            page_token=page_token,
            generation=generation,
            max_staleness=wire.duration(max_staleness_s or None),
        )
        return search_wire.search_result(
            await self._transport.unary(self._search.Search, request, self._limit(timeout_s))
        )

    async def batch_search(
        self,
        collection: str,
        queries: Sequence[str],
        options: search_types.SearchOptions | None = None,
        *,
        generation: int = 0,
        max_staleness_s: float = 0.0,
        timeout_s: float | None = None,
    ) -> list[search_types.SearchResult | GannetError]:
        """Make up to 32 searches of one state of a collection in one call: for each query, in order, what it found or why it failed.

        `options`, `generation` and `max_staleness_s` are as in `search`, for all of them.
        """
        request = search_pb2.BatchSearchRequest(
            parent=wire.collection_name(collection),
            queries=queries,
            options=None if options is None else search_wire.search_options(options),
            generation=generation,
            max_staleness=wire.duration(max_staleness_s or None),
        )
        reply = await self._transport.unary(self._search.BatchSearch, request, self._limit(timeout_s))
        return search_wire.batch_results(reply, len(queries))

    async def answer(
        self,
        collection: str,
        question: str,
        options: search_types.SearchOptions | None = None,
        *,
        how: answer_types.AnswerOptions | None = None,
        timeout_s: float | None = None,
    ) -> types.Answer:
        """Answer a question from a collection, all at once; `options` say how to search, `how` how to answer."""
        request = wire.answer_request(collection, question, options, how or answer_types.AnswerOptions())
        return wire.answer(await self._transport.unary(self._answers.Answer, request, self._limit(timeout_s)))

    def stream_answer(
        self,
        collection: str,
        question: str,
        options: search_types.SearchOptions | None = None,
        *,
        how: answer_types.AnswerOptions | None = None,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[types.AnswerEvent]:
        """Answer a question as the answer is made: the last event is Completed. Closing the iterator stops the server.

        An answer that is `how.resumable` is gone on with when the connection breaks: the same events, nothing twice.
        """
        request = wire.answer_request(collection, question, options, how or answer_types.AnswerOptions())
        return answers.stream_answer(self._transport, request, self._limit(timeout_s))

    def resume_answer(
        self, answer_id: str, *, seq: int = 0, timeout_s: float | None = None
    ) -> AsyncGenerator[types.AnswerEvent]:
        """Go on with an answer that was asked for as resumable, from event `seq` on; 0 is all of it."""
        return answers.resume_answer(self._transport, answer_id, seq, self._limit(timeout_s))

    async def verify_answer(
        self,
        collection: str,
        text: str,
        *,
        passages: Sequence[str] = (),
        options: search_types.SearchOptions | None = None,
        timeout_s: float | None = None,
    ) -> answer_types.Verification:
        """Which sentences of `text` are supported: by `passages`, or without any by what is found in the collection."""
        request = answer_pb2.VerifyAnswerRequest(
            parent=wire.collection_name(collection),
            text=text,
            passages=passages,
            search=None if options is None else search_wire.search_options(options),
        )
        reply = await self._transport.unary(self._answers.VerifyAnswer, request, self._limit(timeout_s))
        return wire.verification(reply)

    async def send_feedback(
        self,
        collection: str,
        *,
        helped: bool,
        answer_id: str = "",
        passage: str = "",
        comment: str = "",
        query: str = "",
        timeout_s: float | None = None,
    ) -> None:
        """Say whether an answer, or a passage by its name, helped: one of the two."""
        entry = feedback_pb2.Feedback(
            rating=feedback_pb2.RATING_UP if helped else feedback_pb2.RATING_DOWN, comment=comment, query=query
        )
        if answer_id:
            entry.answer_id = answer_id
        if passage:
            entry.passage = passage
        request = feedback_pb2.CreateFeedbackRequest(parent=wire.collection_name(collection), feedback=entry)
        await self._transport.unary(self._feedback.CreateFeedback, request, self._limit(timeout_s))

    def upload(
        self,
        collection: str,
        documents: AsyncIterable[types.DocumentInput] | Iterable[types.DocumentInput],
        *,
        ack_timeout_s: float = ACK_TIMEOUT_S,
        retry: RetryPolicy | None = None,
    ) -> AsyncGenerator[types.UploadAck]:
        """Upload documents and yield what became of each; see `gannet_client.upload.upload`. None: the client's retries."""
        return upload(
            self._transport,
            wire.collection_name(collection),
            documents,
            ack_timeout_s=ack_timeout_s,
            retry=retry or self._transport.retry,
        )

    async def get_document(self, name: str, *, timeout_s: float | None = None) -> types.Document:
        """A document's record."""
        request = documents_pb2.GetDocumentRequest(name=name)
        return wire.document(await self._transport.unary(self._documents.GetDocument, request, self._limit(timeout_s)))

    async def read_text(
        self, name: str, start_byte: int = 0, end_byte: int | None = None, *, timeout_s: float | None = None
    ) -> bytes:
        """The bytes of a document's text from `start_byte` to `end_byte`, or to its end.

        Raises:
            Conflict: the document was replaced while it was read.
        """
        text = bytearray()
        etag: str | None = None
        while end_byte is None or len(text) < end_byte - start_byte:
            text_range = documents_pb2.TextRange(start_byte=start_byte + len(text), end_byte=end_byte or 0)
            request = documents_pb2.GetDocumentRequest(name=name, text=text_range)
            message = await self._transport.unary(self._documents.GetDocument, request, self._limit(timeout_s))
            if etag not in (None, message.etag):
                raise Conflict(f"{name} was replaced while it was read")
            etag = message.etag
            text += message.text
            if not message.text or start_byte + len(text) >= message.text_bytes:
                break
        return bytes(text)

    async def list_documents(
        self, collection: str, *, timeout_s: float | None = None
    ) -> AsyncGenerator[types.Document]:
        """All documents of a collection in the order of their ids; `timeout_s` is for each page."""
        token = ""
        while True:
            request = documents_pb2.ListDocumentsRequest(
                parent=wire.collection_name(collection), page_size=PAGE_SIZE, page_token=token
            )
            page = await self._transport.unary(self._documents.ListDocuments, request, self._limit(timeout_s))
            for message in page.documents:
                yield wire.document(message)
            token = page.next_page_token
            if not token:
                return

    async def delete_document(self, name: str, *, etag: str = "", timeout_s: float | None = None) -> None:
        """Remove a document; with an `etag` only if it is still the document's, else Conflict."""
        request = documents_pb2.DeleteDocumentRequest(name=name, etag=etag)
        await self._transport.unary(self._documents.DeleteDocument, request, self._limit(timeout_s))

    async def list_revisions(self, name: str, *, timeout_s: float | None = None) -> AsyncGenerator[types.Document]:
        """The kept revisions of a document, newest first; `timeout_s` is for each page."""
        token = ""
        while True:
            request = documents_pb2.ListDocumentRevisionsRequest(name=name, page_size=PAGE_SIZE, page_token=token)
            page = await self._transport.unary(self._documents.ListDocumentRevisions, request, self._limit(timeout_s))
            for message in page.revisions:
                yield wire.document(message)
            token = page.next_page_token
            if not token:
                return

    async def rollback_document(
        self, name: str, revision: int, *, etag: str = "", timeout_s: float | None = None
    ) -> types.Document:
        """Publish an earlier revision's text again; with an `etag` only if it is still the document's, else Conflict."""
        request = documents_pb2.RollbackDocumentRequest(name=name, revision=revision, etag=etag)
        return wire.document(
            await self._transport.unary(self._documents.RollbackDocument, request, self._limit(timeout_s))
        )

    async def purge_documents(
        self, collection: str, document_ids: Sequence[str], *, timeout_s: float | None = None
    ) -> list[str]:
        """Erase documents, at most 100, with all that was ever kept of them; the ids of those that there were."""
        request = documents_pb2.PurgeDocumentsRequest(
            parent=wire.collection_name(collection), document_ids=document_ids
        )
        reply = await self._transport.unary(self._documents.PurgeDocuments, request, self._limit(timeout_s))
        return list(reply.purged_document_ids)

    async def list_chunks(
        self, name: str, *, generation: int = 0, timeout_s: float | None = None
    ) -> AsyncGenerator[types.Chunk]:
        """The passages of a document in its order, at one generation; `timeout_s` is for each page."""
        token = ""
        while True:
            request = documents_pb2.ListChunksRequest(name=name, generation=generation, page_token=token)
            page = await self._transport.unary(self._documents.ListChunks, request, self._limit(timeout_s))
            for message in page.chunks:
                yield wire.chunk(message)
            token = page.next_page_token
            if not token:
                return

    async def health(self, *, timeout_s: float | None = None) -> types.Health:
        """What the gateway says of itself, its services and its dependencies. Needs no API key."""
        return await health(self._transport, self._limit(timeout_s))
