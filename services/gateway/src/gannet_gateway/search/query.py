"""A search, its result, and the limits of both, as plain values."""

from dataclasses import dataclass
from enum import Enum

from gannet_gateway.config import GatewayConfig
from gannet_gateway.ledger.records import Collection
from gannet_gateway.vectors.points import Candidate
from gannet_gateway.vectors.retriever import Fusion
from gannet_service.errors import InvalidInput

RERANK_DEPTH_MAX = 200


class Mode(Enum):
    """How candidates are found."""

    DENSE = "dense"
    SPARSE = "sparse"
    HYBRID = "hybrid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the caller said; None means not said."""

    top_k: int | None = None
    mode: Mode = Mode.HYBRID
    rrf_k: int | None = None
    dense_weight: float | None = None
    sparse_weight: float | None = None
    rerank: bool | None = None
    rerank_depth: int | None = None
    rerank_weight: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerank:
    """Let the cross-encoder read `depth` candidates, and weigh its z-scores by `weight`."""

    depth: int
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A search with every default filled in."""

    text: str
    top_k: int
    mode: Mode
    fusion: Fusion
    rerank: Rerank | None

    @staticmethod
    def of(
        text: str, options: Options, collection: Collection, config: GatewayConfig, *, top_k_default: int
    ) -> "Query":
        """Fill in the defaults of the collection and the server; raises InvalidInput for a combination that cannot be."""
        top_k = options.top_k or top_k_default
        fusion = Fusion(
            k=options.rrf_k or config.rrf_k,
            dense_weight=options.dense_weight or config.dense_weight,
            sparse_weight=options.sparse_weight or config.sparse_weight,
        )
        return Query(
            text=text, top_k=top_k, mode=options.mode, fusion=fusion, rerank=_rerank(options, top_k, collection, config)
        )


def _rerank(options: Options, top_k: int, collection: Collection, config: GatewayConfig) -> Rerank | None:
    said = (options.rerank, collection.rerank, config.rerank_default)
    if not next(choice for choice in said if choice is not None):
        return None
    if top_k > RERANK_DEPTH_MAX:
        if options.rerank:
            problem = f"options.top_k: {top_k}; at most {RERANK_DEPTH_MAX} passages can be reranked"
            raise InvalidInput(problem, field="options.top_k")
        return None
    if options.rerank_depth is not None and options.rerank_depth < top_k:
        problem = f"options.rerank.depth: {options.rerank_depth}; it must be at least top_k = {top_k}"
        raise InvalidInput(problem, field="options.rerank.depth")
    depth = options.rerank_depth or max(top_k, config.rerank_depth)
    return Rerank(depth=depth, weight=options.rerank_weight or config.rerank_weight)


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A candidate in its final place. `rerank` is the logit, if the cross-encoder read it."""

    candidate: Candidate
    final: float
    rerank: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Degradation:
    """A stage that was skipped ("embed": found by BM25 alone; "rerank": the first stage's order), and why."""

    stage: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Microseconds a stage."""

    embed_us: int
    search_us: int
    rerank_us: int
    total_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Passages by falling `final`, all of one generation. `mode` is how they were found, which a skipped stage may have changed."""

    mode: Mode
    passages: tuple[Passage, ...]
    generation: int
    degraded: tuple[Degradation, ...]
    timings: Timings
