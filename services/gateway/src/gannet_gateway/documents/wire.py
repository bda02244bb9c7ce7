"""Documents between protobuf and the gateway's own types."""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from gannet.gateway.v1 import documents_pb2
from gannet_gateway.blobs.uploads import StoredUpload
from gannet_gateway.documents.ingest import Upload
from gannet_gateway.documents.upload import Accepted, Ack, Draining, End, Message, Received, Start
from gannet_gateway.ledger.job import Job
from gannet_gateway.ledger.records import Document, MetadataValue
from gannet_gateway.names import CollectionName, check_document_id
from gannet_gateway.parsing.parser import Held, check_mime_type
from gannet_gateway.search.terms import check_language
from gannet_gateway.tenants.identities import check_readers
from gannet_gateway.vectors.points import GENERATION_NEVER, Candidate
from gannet_service.errors import InvalidInput, Overloaded, to_status

TITLE_BYTES_MAX = 1024
METADATA_ENTRIES_MAX = 64
METADATA_BYTES_MAX = 16 << 10
DRAINING_RETRY_S = 2
PURGED_MAX = 100
IMPORTED_MAX = 100

_REQUEST_ID = re.compile(r"[a-zA-Z0-9._-]{1,64}")


def to_message(request: documents_pb2.UploadDocumentsRequest, parent: CollectionName) -> Message:
    """One message of an upload stream after its header."""
    match request.WhichOneof("message"):
        case "start":
            start = request.start
            return Start(document_id=start.document_id, make=_maker(start, parent), request_id=start.request_id)
        case "content":
            return request.content.data
        case "end":
            if len(request.end.sha256) not in (0, 32):
                raise InvalidInput(f"end.sha256: {len(request.end.sha256)} bytes; a digest has 32", field="end.sha256")
            return End(sha256=request.end.sha256)
        case "header":
            raise InvalidInput("header: only the first message of a stream is a header", field="header")
        case _:
            raise InvalidInput("message: empty; one of start, content, end is needed", field="message")


def check_request_id(value: str) -> str:
    """`value` if it may make a request safe to repeat, or empty."""
    if value and not _REQUEST_ID.fullmatch(value):
        problem = f"request_id: {value[:100]!r} is not 1 to 64 of a-z, A-Z, 0-9, '-', '_' and '.'"
        raise InvalidInput(problem, field="request_id")
    return value


def to_uploads(
    request: documents_pb2.ImportDocumentsRequest, parent: CollectionName, *, document_bytes_max: int
) -> list[Upload]:
    """The documents of an import."""
    count = len(request.documents)
    if not 1 <= count <= IMPORTED_MAX:
        raise InvalidInput(f"documents: {count} documents; the limits are 1 to {IMPORTED_MAX}", field="documents")
    uploads: list[Upload] = []
    for place, document in enumerate(request.documents):
        field = f"documents[{place}]"
        if document.start.request_id:
            raise InvalidInput(f"{field}.start.request_id: an import has one for all", field=field)
        if len(document.content) > document_bytes_max:
            problem = f"{field}.content: larger than document_bytes_max = {document_bytes_max} bytes"
            raise InvalidInput(problem, field=f"{field}.content")
        uploads.append(_maker(document.start, parent)(Held(document.content)))
    if len({upload.name for upload in uploads}) < count:
        raise InvalidInput("documents: an id comes twice", field="documents")
    return uploads


def _maker(start: documents_pb2.DocumentStart, parent: CollectionName) -> Callable[[Held | StoredUpload], Upload]:
    def make(content: Held | StoredUpload) -> Upload:
        check_request_id(start.request_id)
        title_bytes = len(start.title.encode())
        if title_bytes > TITLE_BYTES_MAX:
            raise InvalidInput(f"title: {title_bytes} bytes; the limit is {TITLE_BYTES_MAX}", field="title")
        if "\x00" in start.title:  # no text of PostgreSQL may hold one
            raise InvalidInput("title: NUL characters are not allowed", field="title")
        return Upload(
            name=parent.document(check_document_id(start.document_id, "document_id")),
            content=content,
            mime_type=check_mime_type(start.mime_type),
            title=" ".join(start.title.split()),
            metadata=to_metadata(start.metadata),
            readers=check_readers(start.readers, "readers"),
            language=check_language(start.language, "language"),
            create_only=start.create_only,
        )

    return make


def to_document_ids(values: Sequence[str]) -> list[str]:
    """The ids of documents to erase, each once."""
    if not 1 <= len(values) <= PURGED_MAX:
        raise InvalidInput(
            f"document_ids: {len(values)} documents; the limits are 1 to {PURGED_MAX}", field="document_ids"
        )
    return list(dict.fromkeys(check_document_id(value, "document_ids") for value in values))


def to_metadata(struct: Struct) -> dict[str, MetadataValue]:
    """Metadata, checked: at most 64 entries and 16 KiB of strings, finite numbers, booleans, lists of strings."""
    if len(struct.fields) > METADATA_ENTRIES_MAX:
        raise InvalidInput(
            f"metadata: {len(struct.fields)} entries; the limit is {METADATA_ENTRIES_MAX}", field="metadata"
        )
    metadata = {key: _to_metadata_value(key, value) for key, value in struct.fields.items()}
    size = len(json.dumps(metadata, ensure_ascii=False).encode())
    if size > METADATA_BYTES_MAX:
        raise InvalidInput(f"metadata: {size} bytes; the limit is {METADATA_BYTES_MAX}", field="metadata")
    return metadata


def _to_metadata_value(key: str, value: Value) -> MetadataValue:
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "number_value" if math.isfinite(value.number_value):
            return value.number_value
        case "list_value" if all(item.WhichOneof("kind") == "string_value" for item in value.list_value.values):
            return [item.string_value for item in value.list_value.values]
        case _:
            field = f"metadata.{key[:100]}"
            problem = "must be a string, a finite number, a boolean or a list of strings"
            raise InvalidInput(f"{field}: {problem}", field=field)


def to_struct(metadata: Mapping[str, MetadataValue]) -> Struct:
    """Metadata as it travels."""
    struct = Struct()
    struct.update(dict(metadata))
    return struct


def from_ack(ack: Ack) -> documents_pb2.UploadDocumentsResponse:
    """One acknowledgement."""
    response = documents_pb2.UploadDocumentsResponse(index=ack.index, document_id=ack.document_id)
    match ack.outcome:
        case Received(size=size):
            response.received.bytes = size
        case Accepted(operation=operation):
            response.accepted.operation = str(operation)
        case Job():
            _set_indexed(response.indexed, ack.outcome)
        case Draining():
            response.draining.retry_delay.CopyFrom(Duration(seconds=DRAINING_RETRY_S))
        case Overloaded(reason="QUEUE_FULL", retry_after_s=delay_s):
            response.backoff.retry_delay.FromMilliseconds(int(1000 * (delay_s or 1)))
        case error:
            response.error.CopyFrom(to_status(error))
    return response


def _set_indexed(message: documents_pb2.DocumentIndexed, job: Job) -> None:
    message.revision = job.revision
    message.chunk_count = job.chunks_total
    message.unchanged = job.unchanged
    message.name = str(job.document)
    message.generation = job.generation


def from_document(document: Document) -> documents_pb2.Document:
    """A document's record, without text."""
    return documents_pb2.Document(
        name=str(document.name),
        revision=document.revision,
        title=document.title,
        mime_type=document.mime_type,
        metadata=to_struct(document.metadata),
        text_bytes=document.text_bytes,
        chunk_count=document.chunk_count,
        content_sha256=document.content_sha256,
        create_time=to_timestamp(document.created_at_s),
        update_time=to_timestamp(document.updated_at_s),
        etag=document.etag,
        generation=document.gen_from,
        end_generation=0 if document.gen_to == GENERATION_NEVER else document.gen_to,
        readers=document.readers,
        language=document.language,
    )


def from_chunk(chunk: Candidate) -> documents_pb2.Chunk:
    """A passage of a document."""
    return documents_pb2.Chunk(
        name=f"{chunk.document}/chunks/{chunk.ordinal}",
        ordinal=chunk.ordinal,
        revision=chunk.revision,
        text=chunk.text,
        start_byte=chunk.start_byte,
        end_byte=chunk.end_byte,
        title=chunk.title,
    )


def to_chunk_place(token: str) -> tuple[int, int] | None:
    """The generation and the ordinal in a page token of ListChunks; None for the first page."""
    generation, _, ordinal = token.partition("/")
    if not token:
        return None
    if not (generation.isascii() and generation.isdigit() and ordinal.isascii() and ordinal.isdigit()):
        raise InvalidInput("page_token: not one that this server gave", field="page_token")
    return int(generation), int(ordinal)


def to_timestamp(seconds: float) -> Timestamp:
    """Unix seconds as a timestamp of microsecond precision."""
    timestamp = Timestamp()
    timestamp.FromMicroseconds(round(seconds * 1e6))
    return timestamp
