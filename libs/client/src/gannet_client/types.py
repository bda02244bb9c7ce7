"""What goes in and comes out, as frozen values. Byte offsets count UTF-8 bytes of the document's text, from 0."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from gannet_client.errors import GannetError


class SearchMode(Enum):
    """How candidates are found."""

    DENSE = "dense"
    SPARSE = "sparse"
    HYBRID = "hybrid"


class FusionMethod(Enum):
    """How the dense and the BM25 list become one."""

    RRF = "rrf"
    RELATIVE_SCORE = "relative_score"


class FinishReason(Enum):
    """Why an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    NO_ANSWER = "no_answer"
    STOP_STRING = "stop_string"
    CONTENT_FILTER = "content_filter"


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """How to search. None leaves a choice to the collection or the server.

    Attributes:
        top_k: passages wanted, 1 to 1,000; 1 to 50 for answers.
        mode: how candidates are found.
        rerank: whether the cross-encoder orders the best candidates.
        rerank_depth: candidates that it reads, top_k to 200.
        rerank_weight: weight of its score beside the first stage's, > 0 to 100.
        rrf_k: damps the lead of the first ranks where dense and sparse are fused, 1 to 1,000.
        dense_weight: weight of the dense ranking, > 0 to 100.
        sparse_weight: weight of the BM25 ranking, > 0 to 100.
        fusion: how dense and sparse are fused.
        filter: which documents are searched, e.g. `metadata.year >= 2024 AND metadata.tags:"grpc"`; see search.proto.
        dense_score_min: least similarity of what the dense stage finds, -1 to 1.
        max_per_document: most passages of one document, 1 to 100.
        diversity: choose passages unlike each other: 0 (unlike) to 1 (by relevance).
        exact: score the dense stage from full-precision vectors.
        neighbours: passages before and behind each one that come with it, 0 to 5.
        explain: give each stage's score and rank.
        feedback_passages: search again, moved towards so many best passages, 1 to 10.
        feedback_weight: their weight beside the query's, > 0 to 10; needs feedback_passages.
    """

    top_k: int | None = None
    mode: SearchMode | None = None
    rerank: bool | None = None
    rerank_depth: int | None = None
    rerank_weight: float | None = None
    rrf_k: int | None = None
    dense_weight: float | None = None
    sparse_weight: float | None = None
    fusion: FusionMethod | None = None
    filter: str = ""
    dense_score_min: float | None = None
    max_per_document: int | None = None
    diversity: float | None = None
    exact: bool = False
    neighbours: int = 0
    explain: bool = False
    feedback_passages: int | None = None
    feedback_weight: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """The scores of the stages that ran; `final` is the one that the order follows."""

    final: float
    dense: float | None = None
    sparse: float | None = None
    fused: float | None = None
    rerank: float | None = None
    dense_rank: int | None = None
    sparse_rank: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A piece of a document: `text` is its bytes from `start_byte` to `end_byte`. `neighbours` are around it, in the document's order."""

    name: str
    document: str
    revision: int
    text: str
    start_byte: int
    end_byte: int
    title: str
    metadata: Mapping[str, object]
    scores: Scores
    neighbours: "tuple[Passage, ...]" = ()

    @property
    def document_id(self) -> str:
        """The document's id in its collection."""
        return self.document.partition("/documents/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Degradation:
    """A stage that was skipped, and a code that says why."""

    stage: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchTimings:
    """Where the time went, microseconds; `rerank_us` is 0 if it did not run."""

    embed_us: int
    search_us: int
    rerank_us: int
    total_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """Passages, best first, all from one generation of the collection; `next_page_token` continues a search by pages."""

    passages: tuple[Passage, ...]
    generation: int
    degraded: tuple[Degradation, ...]
    timings: SearchTimings
    next_page_token: str = ""


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
    """

    document_id: str
    content: bytes
    mime_type: str = ""
    title: str = ""
    metadata: Mapping[str, object] = field(default_factory=dict[str, object])
    create_only: bool = False
    readers: Sequence[str] = ()


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
    """A collection's settings and state."""

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

    @property
    def collection_id(self) -> str:
        """The collection's id in its tenant."""
        return self.name.partition("/collections/")[2]


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
