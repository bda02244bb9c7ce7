"""Between protobuf messages and our types. The only module besides `client` and `upload` that sees messages."""

from collections.abc import Iterable
from dataclasses import fields
from datetime import UTC

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct

from gannet.gateway.v1 import answer_pb2, collections_pb2, conversations_pb2, documents_pb2
from gannet_client import answer_types, search_types, types
from gannet_client.errors import Overloaded, ServerError, from_status
from gannet_client.search_wire import metadata, passage, search_options

_FINISH_REASONS: dict[int, types.FinishReason] = {
    answer_pb2.FINISH_REASON_STOP: types.FinishReason.STOP,
    answer_pb2.FINISH_REASON_LENGTH: types.FinishReason.LENGTH,
    answer_pb2.FINISH_REASON_NO_ANSWER: types.FinishReason.NO_ANSWER,
    answer_pb2.FINISH_REASON_STOP_STRING: types.FinishReason.STOP_STRING,
    answer_pb2.FINISH_REASON_CONTENT_FILTER: types.FinishReason.CONTENT_FILTER,
}


def collection_name(collection: str) -> str:
    """The resource name of a collection given by its id or its name."""
    return collection if collection.startswith("tenants/") else f"tenants/-/collections/{collection}"


def document_name(collection: str, document_id: str) -> str:
    """The resource name of a document."""
    return f"{collection_name(collection)}/documents/{document_id}"


def conversation_name(collection: str, conversation: str) -> str:
    """The resource name of a conversation given by its id or its name."""
    return (
        conversation
        if conversation.startswith("tenants/")
        else f"{collection_name(collection)}/conversations/{conversation}"
    )


def answer_request(
    collection: str, question: str, search: search_types.SearchOptions | None, options: answer_types.AnswerOptions
) -> answer_pb2.AnswerRequest:
    """The message for a question."""
    generation = answer_pb2.GenerationOptions(
        generators=options.generators,
        temperature=options.temperature,
        top_p=options.top_p,
        max_tokens=options.max_tokens,
        stop=options.stop,
        seed=options.seed,
        language=options.language,
    )
    return answer_pb2.AnswerRequest(
        parent=collection_name(collection),
        query=question,
        search=None if search is None else search_options(search),
        sentences_max=options.sentences_max,
        conversation=conversation_name(collection, options.conversation) if options.conversation else "",
        generation=generation,
        prompt=options.prompt,
        resumable=options.resumable,
    )


def answer_event(message: answer_pb2.AnswerEvent) -> types.AnswerEvent | None:
    """One event, or None for a kind that this version does not know: servers may add some."""
    answer_id, seq = message.answer_id, message.seq
    event: types.AnswerEvent | None = None
    match message.WhichOneof("event"):
        case "started":
            event = types.Started(
                answer_id=answer_id,
                seq=seq,
                generation=message.started.generation,
                rewritten_queries=tuple(message.started.rewritten_queries),
            )
        case "retrieved":
            passages = tuple(passage(item) for item in message.retrieved.passages)
            event = types.Retrieved(answer_id=answer_id, seq=seq, passages=passages)
        case "delta":
            delta = message.delta
            event = types.Delta(answer_id=answer_id, seq=seq, text=delta.text, start_byte=delta.start_byte)
        case "citation":
            event = types.Cited(answer_id=answer_id, seq=seq, citation=_citation(message.citation))
        case "heartbeat":
            event = types.Heartbeat(answer_id=answer_id, seq=seq)
        case "warning":
            event = types.Warned(answer_id=answer_id, seq=seq, warning=from_status(message.warning))
        case "completed":
            event = _completed(answer_id, seq, message.completed)
        case _:
            pass
    return event


def answer(message: answer_pb2.AnswerResponse) -> types.Answer:
    """A whole answer."""
    completed = _completed(message.answer_id, 0, message.completed)
    return types.Answer(
        answer_id=message.answer_id,
        text=completed.text,
        passages=tuple(passage(item) for item in message.passages),
        citations=completed.citations,
        finish_reason=completed.finish_reason,
        warnings=tuple(from_status(item) for item in message.warnings),
        unsupported=completed.unsupported,
    )


def verification(message: answer_pb2.VerifyAnswerResponse) -> answer_types.Verification:
    """A text's claims."""
    claims = tuple(
        answer_types.Claim(
            start_byte=claim.start_byte,
            end_byte=claim.end_byte,
            score=claim.score,
            supported=claim.supported,
            sources=tuple(_source(source) for source in claim.sources),
        )
        for claim in message.claims
    )
    return answer_types.Verification(claims=claims, passages=tuple(passage(item) for item in message.passages))


def conversation(message: conversations_pb2.Conversation) -> answer_types.Conversation:
    """A conversation."""
    return answer_types.Conversation(
        name=message.name,
        title=message.title,
        turn_count=message.turn_count,
        create_time=message.create_time.ToDatetime(UTC),
        update_time=message.update_time.ToDatetime(UTC),
    )


def turn(message: conversations_pb2.Turn) -> answer_types.Turn:
    """A question and its answer."""
    return answer_types.Turn(
        ordinal=message.ordinal,
        answer_id=message.answer_id,
        question=message.question,
        answer=message.answer,
        finish_reason=_finish_reason(message.finish_reason),
    )


def _completed(answer_id: str, seq: int, message: answer_pb2.Completed) -> types.Completed:
    return types.Completed(
        answer_id=answer_id,
        seq=seq,
        text=message.text,
        citations=tuple(_citation(item) for item in message.citations),
        finish_reason=_finish_reason(message.finish_reason),
        sentences_scored=message.usage.sentences_scored,
        tokens_read=message.usage.tokens_read,
        first_delta_us=message.timings.first_delta_us,
        total_us=message.timings.total_us,
        unsupported=tuple((span.start_byte, span.end_byte) for span in message.unsupported),
        generator=message.generator,
        model=message.model,
        cache_hits=tuple(message.cache_hits),
    )


def _finish_reason(number: int) -> types.FinishReason:
    reason = _FINISH_REASONS.get(number)
    if reason is None:
        raise ServerError(f"the answer ended with an unknown finish reason, {number}")
    return reason


def _citation(message: answer_pb2.Citation) -> types.Citation:
    return types.Citation(
        start_byte=message.start_byte,
        end_byte=message.end_byte,
        sources=tuple(_source(source) for source in message.sources),
        score=message.score,
    )


def _source(message: answer_pb2.CitedSource) -> types.CitedSource:
    return types.CitedSource(
        passage_index=message.passage_index, start_byte=message.start_byte, end_byte=message.end_byte
    )


def document(message: documents_pb2.Document) -> types.Document:
    """A document's record."""
    return types.Document(
        name=message.name,
        revision=message.revision,
        title=message.title,
        mime_type=message.mime_type,
        metadata=metadata(message.metadata),
        text_bytes=message.text_bytes,
        chunk_count=message.chunk_count,
        content_sha256=message.content_sha256,
        create_time=message.create_time.ToDatetime(UTC),
        update_time=message.update_time.ToDatetime(UTC),
        etag=message.etag,
        readers=tuple(message.readers),
        language=message.language,
    )


def chunk(message: documents_pb2.Chunk) -> types.Chunk:
    """A passage of a document."""
    return types.Chunk(
        name=message.name,
        ordinal=message.ordinal,
        revision=message.revision,
        text=message.text,
        start_byte=message.start_byte,
        end_byte=message.end_byte,
        title=message.title,
    )


def collection(message: collections_pb2.Collection) -> types.Collection:
    """A collection."""
    return types.Collection(
        name=message.name,
        chunk_size=message.chunk_size,
        chunk_overlap=message.chunk_overlap,
        language=message.language,
        rerank=message.rerank if message.HasField("rerank") else None,
        embedding_model=message.embedding_model,
        embedding_model_digest=message.embedding_model_digest,
        document_count=message.document_count,
        generation=message.generation,
        create_time=message.create_time.ToDatetime(UTC),
        cache_results=message.cache_results if message.HasField("cache_results") else None,
        cache_ttl_s=message.cache_ttl.ToNanoseconds() / 1e9 if message.HasField("cache_ttl") else None,
        languages=tuple(message.languages),
        etag=message.etag,
    )


def duration(seconds: float | None) -> Duration | None:
    """The message for a time; None stays absent."""
    if seconds is None:
        return None
    message = Duration()
    message.FromNanoseconds(round(seconds * 1e9))
    return message


def settings_mask(settings: types.CollectionSettings, reset: Iterable[str]) -> list[str]:
    """Paths of the settings that are given, or named to be reset; an unknown name is for the server to refuse."""
    given = [field.name for field in fields(settings) if getattr(settings, field.name) is not None]
    return [{"cache_ttl_s": "cache_ttl"}.get(name, name) for name in dict.fromkeys([*given, *reset])]


def document_start(item: types.DocumentInput) -> documents_pb2.UploadDocumentsRequest:
    """The message that opens a document."""
    struct = None
    if item.metadata:
        struct = Struct()
        struct.update(dict(item.metadata))  # pyright: ignore[reportArgumentType] - the stub's value type is invariant
    return documents_pb2.UploadDocumentsRequest(
        start=documents_pb2.DocumentStart(
            document_id=item.document_id,
            mime_type=item.mime_type,
            title=item.title,
            metadata=struct,
            create_only=item.create_only,
            readers=item.readers,
            language=item.language,
        )
    )


def upload_ack(message: documents_pb2.UploadDocumentsResponse, request_id: str) -> types.UploadAck | None:
    """The final word on a document, or None if this is not one."""
    match message.WhichOneof("ack"):
        case "indexed":
            indexed = message.indexed
            return types.DocumentIndexed(
                document_id=message.document_id,
                name=indexed.name,
                revision=indexed.revision,
                chunk_count=indexed.chunk_count,
                unchanged=indexed.unchanged,
            )
        case "error":
            error = from_status(message.error, request_id)
            return types.DocumentFailed(document_id=message.document_id, error=error, acknowledged=True)
        case "backoff":
            delay_s = message.backoff.retry_delay.ToNanoseconds() / 1e9
            problem = "too many documents of the tenant wait"
            error = Overloaded(problem, reason="QUEUE_FULL", retry_after_s=delay_s, request_id=request_id)
            return types.DocumentFailed(document_id=message.document_id, error=error, acknowledged=True)
        case _:
            return None
