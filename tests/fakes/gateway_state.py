"""What the fake gateway holds, and its stand-ins for indexing and retrieval."""

import hashlib
import re
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from gannet.gateway.v1 import collections_pb2, documents_pb2, search_pb2

API_KEY = "gnt_fake"


class Refused(Exception):
    """What a call ends with."""

    def __init__(
        self, code: grpc.StatusCode, message: str, *, field: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = status_pb2.Status(code=code.value[0], message=message)
        self.status.details.add().Pack(error_details_pb2.ErrorInfo(reason=f"FAKE_{code.name}", domain="gannet"))
        if field is not None:
            violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=message)
            self.status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
        if retry_after_s is not None:
            delay = Duration(nanos=int(retry_after_s * 1e9))
            self.status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))


@dataclass
class StoredCollection:
    """A collection with its documents by id; `contents` are the uploaded bytes."""

    message: collections_pb2.Collection
    documents: dict[str, documents_pb2.Document] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)


@dataclass
class State:
    """Everything that a test may look at or set."""

    collections: dict[str, StoredCollection] = field(default_factory=dict)
    faults: dict[str, deque[Refused]] = field(default_factory=lambda: defaultdict(deque))
    drop_after_received: int = 0  # uploads that end with UNAVAILABLE right after a document's bytes arrived
    deadly: set[str] = field(default_factory=set)  # documents that end every upload like that
    backoffs: dict[str, int] = field(
        default_factory=lambda: defaultdict(int)
    )  # times that a document finds the queue full
    request_ids: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))  # of each document, as it came
    drain_after_indexed: int = 0  # uploads that drain after their first indexed document
    # What a document is refused with; CANCELLED is a server that dies of it instead.
    document_faults: dict[str, deque[Refused]] = field(default_factory=lambda: defaultdict(deque))
    end_after_indexed: int = 0  # uploads that the server ends, with OK, after their first document
    truncated_answers: bool = False  # answer streams that end before their last event
    on_call: Callable[[str], None] = lambda _method: None
    silent_uploads: bool = False  # acknowledge nothing
    answer_fault_after_delta: Refused | None = None
    resumed_fault_after_delta: Refused | None = None
    resumable: list = field(default_factory=list)  # the events of the answer that was asked for as such
    calls: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    searches: list = field(default_factory=list)  # requests of Search and BatchSearch, as they came
    health: dict[str, int] = field(default_factory=lambda: {"": 1, "dependency:embedder": 1, "dependency:vectors": 1})
    lists_health: bool = True

    def dies_of(self, document_id: str) -> bool:
        """Whether the upload ends right after this document's bytes arrived."""
        if self.drop_after_received:
            self.drop_after_received -= 1
            return True
        return document_id in self.deadly

    def backs_off(self, document_id: str) -> bool:
        """Whether the queue is full for this document."""
        if not self.backoffs[document_id]:
            return False
        self.backoffs[document_id] -= 1
        return True

    def collection(self, name: str) -> StoredCollection:
        """The collection of that name, "-" standing for the only tenant."""
        collection_id = name.split("/")[3]
        if collection_id not in self.collections:
            raise Refused(grpc.StatusCode.NOT_FOUND, f"no collection {collection_id!r}")
        return self.collections[collection_id]

    def document(self, name: str) -> tuple[StoredCollection, str]:
        """The collection and the id of a document that exists."""
        parent, _, document_id = name.partition("/documents/")
        collection = self.collection(parent)
        if document_id not in collection.documents:
            raise Refused(grpc.StatusCode.NOT_FOUND, f"no document {document_id!r}")
        return collection, document_id


def store(
    collection: StoredCollection, start: documents_pb2.DocumentStart, content: bytes, sha256: bytes, seen: set[str]
) -> documents_pb2.DocumentIndexed:
    """Store a document, or refuse it; `seen` are the ids of this stream."""
    if start.document_id in seen:
        raise Refused(grpc.StatusCode.ALREADY_EXISTS, "the id came twice")
    seen.add(start.document_id)
    if sha256 and sha256 != hashlib.sha256(content).digest():
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "sha256: another digest", field="end.sha256")
    if not content.strip():
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "content: no text", field="content")
    old = collection.documents.get(start.document_id)
    unchanged = old is not None and collection.contents[start.document_id] == content
    revision = (old.revision if old is not None else 0) + (not unchanged)
    name = f"{collection.message.name}/documents/{start.document_id}"
    chunks = len(paragraphs(content))
    collection.contents[start.document_id] = content
    collection.documents[start.document_id] = documents_pb2.Document(
        name=name,
        revision=revision,
        title=start.title or content.decode().partition("\n")[0].lstrip("# "),
        mime_type=start.mime_type,
        metadata=start.metadata if start.HasField("metadata") else None,
        text_bytes=len(content),
        chunk_count=chunks,
        content_sha256=hashlib.sha256(content).hexdigest(),
        etag=f"{revision}",
        language=start.language,
    )
    return documents_pb2.DocumentIndexed(revision=revision, chunk_count=chunks, unchanged=unchanged, name=name)


def paragraphs(content: bytes) -> list[tuple[int, int]]:
    """Byte spans of the paragraphs."""
    return [match.span() for match in re.finditer(rb"\S(?:.|\n(?!\n))*", content)]


def find(state: State, parent: str, query: str, options: search_pb2.SearchOptions) -> list[search_pb2.Passage]:
    """The passages that share words with `query`, best first."""
    if not query.strip():
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "query: empty", field="query")
    words = set(re.findall(r"\w+", query.lower()))
    found = []
    collection = state.collection(parent)
    for document_id, content in collection.contents.items():
        record = collection.documents[document_id]
        for ordinal, (start, end) in enumerate(paragraphs(content)):
            text = content[start:end].decode()
            common = words & set(re.findall(r"\w+", text.lower()))
            if common:
                passage = search_pb2.Passage(
                    name=f"{record.name}/chunks/{ordinal}",
                    document=record.name,
                    revision=record.revision,
                    text=text,
                    start_byte=start,
                    end_byte=end,
                    title=record.title,
                    metadata=record.metadata,
                )
                passage.scores.final = passage.scores.sparse = len(common)
                found.append(passage)
    found.sort(key=lambda passage: (-passage.scores.final, passage.name))
    return found[: options.top_k if options.HasField("top_k") else 10]
