"""What goes in and comes out, as frozen values. Byte offsets count UTF-8 bytes of the document's text, from 0."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from gannet_client.errors import GannetError
from gannet_client.search_types import Passage


class FinishReason(Enum):
    """Why an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    NO_ANSWER = "no_answer"
    STOP_STRING = "stop_string"
    CONTENT_FILTER = "content_filter"


@dataclass(frozen=True, slots=True, kw_only=True)
class CitedSource:
    """A span of a document that supports a statement; `passage_index` counts in `Retrieved.passages`."""

    passage_index: int
    start_byte: int
    end_byte: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The first event of an answer; `rewritten_queries` are what is searched for where a conversation made the question stand alone."""

    answer_id: str
    seq: int
    generation: int
    rewritten_queries: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieved:
    """The passages that the answer is made from; once, before any delta."""

    answer_id: str
    seq: int
    passages: tuple[Passage, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """The next piece of text; `start_byte` counts in the answer."""

    answer_id: str
    seq: int
    text: str
    start_byte: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """Ties `start_byte` to `end_byte` of the answer to its sources, best first; `score` is a logit."""

    start_byte: int
    end_byte: int
    sources: tuple[CitedSource, ...]
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cited:
    """A citation of text that has been sent already."""

    answer_id: str
    seq: int
    citation: Citation


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """The answer is still being made."""

    answer_id: str
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """Something went less well than it should; the answer goes on."""

    answer_id: str
    seq: int
    warning: GannetError


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """The last event of an answer that succeeded. `text` is all deltas; times are microseconds from admission.

    `unsupported` are byte spans of sentences that no passage supports; `cache_hits` holds "answer" where it was made before.
    """

    answer_id: str
    seq: int
    text: str
    citations: tuple[Citation, ...]
    finish_reason: FinishReason
    sentences_scored: int
    tokens_read: int
    first_delta_us: int
    total_us: int
    unsupported: tuple[tuple[int, int], ...] = ()
    generator: str = ""
    model: str = ""
    cache_hits: tuple[str, ...] = ()


AnswerEvent = Started | Retrieved | Delta | Cited | Heartbeat | Warned | Completed


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer."""

    answer_id: str
    text: str
    passages: tuple[Passage, ...]
    citations: tuple[Citation, ...]
    finish_reason: FinishReason
    warnings: tuple[GannetError, ...]
    unsupported: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentInput:
    """A document to upload.

    Attributes:
        document_id: its name in the collection, 1 to 512 bytes; "/" may stand inside.
        content: the bytes, UTF-8. Kept until the server has acknowledged them.
        mime_type: text/plain, text/markdown, text/x-rst or text/html; empty means text/plain.
        title: empty means the text's first heading.
        metadata: returned with passages; strings, numbers, booleans or lists of strings.
        create_only: refuse to replace a document.
        readers: who may find and read it, "user:ID" and "group:ID"; empty means everyone in the tenant.
        language: whose stemmer and stop words its words are indexed with, ISO 639-1; empty means the collection's.
    """

    document_id: str
    content: bytes
    mime_type: str = ""
    title: str = ""
    metadata: Mapping[str, object] = field(default_factory=dict[str, object])
    create_only: bool = False
    readers: Sequence[str] = ()
    language: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentIndexed:
    """The document is durable and searchable; `unchanged` if it was so before, with the same content."""

    document_id: str
    name: str
    revision: int
    chunk_count: int
    unchanged: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentFailed:
    """The document was not taken, and what was stored before is unchanged.

    `acknowledged` is False where the connection was lost before the server said either way: it may be stored; sending it again is safe.
    """

    document_id: str
    error: GannetError
    acknowledged: bool


UploadAck = DocumentIndexed | DocumentFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A document's record; `content_sha256` is of the uploaded bytes, in hex."""

    name: str
    revision: int
    title: str
    mime_type: str
    metadata: Mapping[str, object]
    text_bytes: int
    chunk_count: int
    content_sha256: str
    create_time: datetime
    update_time: datetime
    etag: str
    readers: tuple[str, ...] = ()
    language: str = ""

    @property
    def document_id(self) -> str:
        """The document's id in its collection."""
        return self.name.partition("/documents/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A passage as it is stored: `ordinal` is its place in the document, `text` its bytes from `start_byte` to `end_byte`."""

    name: str
    ordinal: int
    revision: int
    text: str
    start_byte: int
    end_byte: int
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """A collection's settings and state; None leaves a setting to the server. `languages` are those that its documents are in."""

    name: str
    chunk_size: int
    chunk_overlap: int
    language: str
    rerank: bool | None
    embedding_model: str
    embedding_model_digest: str
    document_count: int
    generation: int
    create_time: datetime
    cache_results: bool | None = None
    cache_ttl_s: float | None = None
    languages: tuple[str, ...] = ()
    etag: str = ""

    @property
    def collection_id(self) -> str:
        """The collection's id in its tenant."""
        return self.name.partition("/collections/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionSettings:
    """What can be changed of a collection; None says nothing of it.

    Attributes:
        rerank: whether searches and answers that do not say are reranked.
        cache_results: whether replies of searches are cached; False keeps answers out of the cache, too.
        cache_ttl_s: longest time for which a reply is given again, 1 to 2,592,000.
    """

    rerank: bool | None = None
    cache_results: bool | None = None
    cache_ttl_s: float | None = None


class ServingStatus(Enum):
    """What a server says of itself or of something that it needs."""

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The server's own state, and that of each service and dependency by name."""

    status: ServingStatus
    parts: Mapping[str, ServingStatus]
