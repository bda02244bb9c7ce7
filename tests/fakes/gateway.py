"""An in-memory gateway for tests of the SDK and the command line.

Real: the gRPC surface, the order of messages, error details, acknowledgements, byte offsets. Fake: retrieval counts common words,
a document's passages are its paragraphs, an answer is the first sentence of the best passage, nothing is durable.
`faults` makes the next calls of a method fail, and `drop_after_received` kills an upload at its worst moment.
"""

# ruff: noqa: N802, ARG002 - the names and signatures are gRPC's

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator

import grpc
from fakes.gateway_state import API_KEY, Refused, State, StoredCollection, find, store
from google.protobuf import empty_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gannet.gateway.v1 import (
    answer_pb2,
    answer_pb2_grpc,
    collections_pb2,
    collections_pb2_grpc,
    documents_pb2,
    documents_pb2_grpc,
    search_pb2,
    search_pb2_grpc,
)

PAGE_SIZE = 2


class Gate(grpc.aio.ServerInterceptor):
    """Checks the API key, plays the faults and turns Refused into a status with details."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def intercept_service(self, continuation, details):
        handler = await continuation(details)
        if handler is None or details.method.startswith("/grpc."):
            return handler
        method = details.method.rpartition("/")[2]
        metadata = {key: value for key, value in details.invocation_metadata if isinstance(value, str)}

        async def unary(request, context):
            try:
                self._admit(method, metadata)
                return await handler.unary_unary(request, context)
            except Refused as refused:
                await _abort(context, refused)

        async def stream(request, context):
            try:
                self._admit(method, metadata)
                behaviour = handler.stream_stream if handler.request_streaming else handler.unary_stream
                async for response in behaviour(request, context):
                    yield response
            except Refused as refused:
                await _abort(context, refused)

        if not handler.response_streaming:
            wrapped, make = unary, grpc.unary_unary_rpc_method_handler
        elif handler.request_streaming:
            wrapped, make = stream, grpc.stream_stream_rpc_method_handler
        else:
            wrapped, make = stream, grpc.unary_stream_rpc_method_handler
        return make(wrapped, handler.request_deserializer, handler.response_serializer)

    def _admit(self, method: str, metadata: dict[str, str]) -> None:
        self._state.calls.append((method, metadata))
        self._state.on_call(method)
        if metadata.get("authorization") != f"Bearer {API_KEY}":
            raise Refused(grpc.StatusCode.UNAUTHENTICATED, "unknown API key")
        if self._state.faults[method]:
            raise self._state.faults[method].popleft()


async def _abort(context, refused: Refused) -> None:
    details = (("grpc-status-details-bin", refused.status.SerializeToString()),)
    await context.abort(refused.code, refused.status.message, details)


class Collections(collections_pb2_grpc.CollectionServiceServicer):
    """Keeps collections in a dict."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def CreateCollection(self, request, context):
        if not re.fullmatch(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?", request.collection_id):
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "collection_id: not an id", field="collection_id")
        if request.collection_id in self._state.collections:
            raise Refused(grpc.StatusCode.ALREADY_EXISTS, f"{request.collection_id} exists")
        message = collections_pb2.Collection()
        message.CopyFrom(request.collection)
        message.name = f"tenants/t1/collections/{request.collection_id}"
        message.generation = 1
        message.embedding_model = "fake"
        self._state.collections[request.collection_id] = StoredCollection(message)
        return message

    async def GetCollection(self, request, context):
        return _with_count(self._state.collection(request.name))

    async def ListCollections(self, request, context):
        ids = sorted(id_ for id_ in self._state.collections if id_ > request.page_token)
        page = ids[:PAGE_SIZE]
        return collections_pb2.ListCollectionsResponse(
            collections=[_with_count(self._state.collections[id_]) for id_ in page],
            next_page_token=page[-1] if len(ids) > PAGE_SIZE else "",
        )

    async def UpdateCollection(self, request, context):
        message = self._state.collection(request.collection.name).message
        if request.collection.etag not in ("", message.etag):
            raise Refused(grpc.StatusCode.ABORTED, "the collection has changed")
        for path in request.update_mask.paths:
            if path not in ("rerank", "cache_results", "cache_ttl"):
                raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "update_mask: not a setting", field="update_mask")
            message.ClearField(path)
        asked = collections_pb2.Collection()
        request.update_mask.MergeMessage(request.collection, asked)
        message.MergeFrom(asked)
        message.etag = f"e{len(self._state.calls)}"
        return _with_count(self._state.collection(request.collection.name))

    async def DeleteCollection(self, request, context):
        del self._state.collections[self._state.collection(request.name).message.name.rpartition("/")[2]]
        return empty_pb2.Empty()


def _with_count(stored: StoredCollection) -> collections_pb2.Collection:
    stored.message.document_count = len(stored.documents)
    return stored.message


class Documents(documents_pb2_grpc.DocumentServiceServicer):
    """Stores what is uploaded, whole."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def UploadDocuments(self, request_iterator, context) -> AsyncIterator[documents_pb2.UploadDocumentsResponse]:
        collection: StoredCollection | None = None
        start, content, index, seen = documents_pb2.DocumentStart(), b"", -1, set()
        async for request in request_iterator:
            match request.WhichOneof("message"):
                case "header":
                    collection = self._state.collection(request.header.parent)
                case "start":
                    start, content, index = request.start, b"", index + 1
                    self._state.request_ids[start.document_id].append(start.request_id)
                case "content":
                    content += request.content.data
                case "end" if self._state.silent_uploads:
                    await asyncio.Event().wait()
                case "end":
                    reply = documents_pb2.UploadDocumentsResponse(index=index, document_id=start.document_id)
                    reply.received.bytes = len(content)
                    yield reply
                    if self._state.dies_of(start.document_id):
                        raise Refused(grpc.StatusCode.UNAVAILABLE, "the fake gateway died")
                    reply = documents_pb2.UploadDocumentsResponse(index=index, document_id=start.document_id)
                    if self._state.drain_after_indexed and index > 0:
                        self._state.drain_after_indexed -= 1
                        reply.draining.retry_delay.FromMilliseconds(1)
                        yield reply
                        return
                    self._index(collection, start, content, request.end.sha256, seen=seen, reply=reply)
                    yield reply
                    if self._state.end_after_indexed:
                        self._state.end_after_indexed -= 1
                        return

    def _index(self, collection, start, content, sha256, *, seen, reply) -> None:
        if self._state.backs_off(start.document_id):
            reply.backoff.retry_delay.FromMilliseconds(1)
            return
        try:
            if self._state.document_faults[start.document_id]:
                raise self._state.document_faults[start.document_id].popleft()
            reply.indexed.CopyFrom(store(collection, start, content, sha256, seen))
        except Refused as refused:
            if refused.code is grpc.StatusCode.CANCELLED:
                raise
            reply.error.CopyFrom(refused.status)

    async def GetDocument(self, request, context):
        collection, document_id = self._state.document(request.name)
        message = documents_pb2.Document()
        message.CopyFrom(collection.documents[document_id])
        if request.HasField("text"):
            end = request.text.end_byte or message.text_bytes
            end = min(end, request.text.start_byte + (1 << 20))
            message.text = collection.contents[document_id][request.text.start_byte : end]
            message.text_start_byte = request.text.start_byte
        return message

    async def ListDocuments(self, request, context):
        collection = self._state.collection(request.parent)
        ids = sorted(id_ for id_ in collection.documents if id_ > request.page_token)
        page = ids[:PAGE_SIZE]
        return documents_pb2.ListDocumentsResponse(
            documents=[collection.documents[id_] for id_ in page],
            next_page_token=page[-1] if len(ids) > PAGE_SIZE else "",
        )

    async def DeleteDocument(self, request, context):
        collection, document_id = self._state.document(request.name)
        if request.etag and request.etag != collection.documents[document_id].etag:
            raise Refused(grpc.StatusCode.ABORTED, "the document has changed")
        del collection.documents[document_id], collection.contents[document_id]
        return empty_pb2.Empty()


class Search(search_pb2_grpc.SearchServiceServicer):
    """Finds passages by common words."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def Search(self, request, context):
        self._state.searches.append(request)
        passages = find(self._state, request.parent, request.query, request.options)
        response = search_pb2.SearchResponse(passages=passages, generation=1)
        response.timings.total_us = 1_000
        if [one.query for one in self._state.searches].count(request.query) > 1:
            response.cache_hits.result = search_pb2.CACHE_TIER_LOCAL
        return response

    async def BatchSearch(self, request, context):
        self._state.searches.append(request)
        self._state.collection(request.parent)
        response = search_pb2.BatchSearchResponse()
        for query in request.queries:
            result = response.results.add()
            try:
                result.response.passages.extend(find(self._state, request.parent, query, request.options))
            except Refused as refused:
                result.error.CopyFrom(refused.status)
        return response


class Answers(answer_pb2_grpc.AnswerServiceServicer):
    """Answers with the first sentence of each of the two best passages."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def Answer(self, request, context):
        response = answer_pb2.AnswerResponse(answer_id="a1")
        async for event in self.StreamAnswer(request, context):
            match event.WhichOneof("event"):
                case "retrieved":
                    response.passages.extend(event.retrieved.passages)
                case "warning":
                    response.warnings.append(event.warning)
                case "completed":
                    response.completed.CopyFrom(event.completed)
        return response

    async def StreamAnswer(self, request, context) -> AsyncIterator[answer_pb2.AnswerEvent]:
        passages = find(self._state, request.parent, request.query, request.search)
        events = [
            answer_pb2.AnswerEvent(started=answer_pb2.Started(generation=1)),
            answer_pb2.AnswerEvent(retrieved=answer_pb2.Retrieved(passages=passages)),
            answer_pb2.AnswerEvent(heartbeat=answer_pb2.Heartbeat()),
        ]
        text, citations = "", []
        for index, passage in enumerate(passages[: min(2, request.sentences_max or 2)]):
            sentence = re.split(r"(?<=\.)\s", passage.text, maxsplit=1)[0]
            delta = (" " if text else "") + sentence
            events.append(answer_pb2.AnswerEvent(delta=answer_pb2.Delta(text=delta, start_byte=len(text.encode()))))
            text += delta
            end = len(text.encode())
            source = answer_pb2.CitedSource(
                passage_index=index,
                start_byte=passage.start_byte,
                end_byte=passage.start_byte + len(sentence.encode()),
            )
            citations.append(
                answer_pb2.Citation(start_byte=end - len(sentence.encode()), end_byte=end, sources=[source], score=1.0)
            )
            events.append(answer_pb2.AnswerEvent(citation=citations[-1]))
        reason = answer_pb2.FINISH_REASON_STOP if text else answer_pb2.FINISH_REASON_NO_ANSWER
        completed = answer_pb2.Completed(text=text, citations=citations, finish_reason=reason)
        events.append(answer_pb2.AnswerEvent(completed=completed))
        if self._state.truncated_answers:
            events.pop()
        for seq, event in enumerate(events):
            event.seq, event.answer_id = seq, "a1"
        if request.resumable:
            self._state.resumable = events
        for event in events:
            yield event
            if event.HasField("delta") and self._state.answer_fault_after_delta is not None:
                raise self._state.answer_fault_after_delta

    async def ResumeAnswer(self, request, context) -> AsyncIterator[answer_pb2.AnswerEvent]:
        if request.answer_id != "a1" or not self._state.resumable:
            raise Refused(grpc.StatusCode.NOT_FOUND, "no such answer")
        for event in self._state.resumable[request.seq :]:
            yield event
            if event.HasField("delta") and self._state.resumed_fault_after_delta is not None:
                raise self._state.resumed_fault_after_delta


class Health(health_pb2_grpc.HealthServicer):
    """Says what `State.health` says."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def Check(self, request, context):
        if request.service not in self._state.health:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return health_pb2.HealthCheckResponse(status=self._state.health[request.service])

    async def List(self, request, context):
        if not self._state.lists_health:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "no list")
        statuses = {name: health_pb2.HealthCheckResponse(status=status) for name, status in self._state.health.items()}
        return health_pb2.HealthListResponse(statuses=statuses)


@contextlib.asynccontextmanager
async def serve(state: State) -> AsyncIterator[str]:
    """Serve `state` on a free port and give the target."""
    server = grpc.aio.server(interceptors=[Gate(state)])
    collections_pb2_grpc.add_CollectionServiceServicer_to_server(Collections(state), server)
    documents_pb2_grpc.add_DocumentServiceServicer_to_server(Documents(state), server)
    search_pb2_grpc.add_SearchServiceServicer_to_server(Search(state), server)
    answer_pb2_grpc.add_AnswerServiceServicer_to_server(Answers(state), server)
    health_pb2_grpc.add_HealthServicer_to_server(Health(state), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def drain(stream: AsyncIterator[object], into: list[object]) -> None:
    """Append what `stream` yields, so that it is there when the stream raises."""
    async for item in stream:
        into.append(item)  # noqa: PERF401 - a comprehension would lose it
