"""What a search is asked and what it finds, as frozen values. Byte offsets count UTF-8 bytes of the document's text, from 0."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class SearchMode(Enum):
    """How candidates are found."""

    DENSE = "dense"
    SPARSE = "sparse"
    HYBRID = "hybrid"


class FusionMethod(Enum):
    """How the dense and the BM25 list become one."""

    RRF = "rrf"
    RELATIVE_SCORE = "relative_score"


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
        language: the query's, ISO 639-1; empty means every language of the collection's documents.
        multi_query: search for so many other phrasings, too, which a generator writes, 1 to 3.
        multi_query_weight: their weight beside the query's, > 0 to 100; needs multi_query.
        multi_query_generator: which generator writes them; empty is the first of the collection's that writes.
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
    language: str = ""
    multi_query: int | None = None
    multi_query_weight: float | None = None
    multi_query_generator: str = ""


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
    """Where the time went, microseconds; `rerank_us` and `expand_us` are 0 where they did not run."""

    embed_us: int
    search_us: int
    rerank_us: int
    total_us: int
    expand_us: int = 0


class CacheTier(Enum):
    """Where a value came from: nothing was asked, it was computed now, the gateway's memory, or the Redis that gateways share."""

    UNASKED = "unasked"
    MISS = "miss"
    LOCAL = "local"
    SHARED = "shared"


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheHits:
    """Where a reply as a whole and, where it was computed, the query's vector came from."""

    result: CacheTier = CacheTier.UNASKED
    embedding: CacheTier = CacheTier.UNASKED


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """Passages, best first, all from one generation of the collection; `next_page_token` continues a search by pages."""

    passages: tuple[Passage, ...]
    generation: int
    degraded: tuple[Degradation, ...]
    timings: SearchTimings
    next_page_token: str = ""
    cache_hits: CacheHits = CacheHits()
