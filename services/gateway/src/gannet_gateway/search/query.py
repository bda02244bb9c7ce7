"""A search, its result, and the limits of both, as plain values."""

from dataclasses import dataclass, replace
from enum import Enum

from gannet_gateway.cache.tiers import Tier
from gannet_gateway.config import GatewayConfig
from gannet_gateway.ledger.records import Collection
from gannet_gateway.search.filter import Filter
from gannet_gateway.vectors.lists import Fusion, Method, Placed
from gannet_gateway.vectors.points import Candidate
from gannet_service import call
from gannet_service.errors import InvalidInput

RERANK_DEPTH_MAX = 200
# Passages that maximal marginal relevance chooses from: it compares each with each that it picked.
DIVERSITY_POOL_MAX = 200
DIVERSITY_POOL_MIN = 50
DIVERSITY_POOL_FACTOR = 4
NEIGHBOURS_TOP_K_MAX = 100
FEEDBACK_PASSAGES = 3
FEEDBACK_WEIGHT = 0.3
PHRASINGS = 3
PHRASING_WEIGHT = 0.5


class Mode(Enum):
    """How candidates are found."""

    DENSE = "dense"
    SPARSE = "sparse"
    HYBRID = "hybrid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """Search once more with the query moved towards the best `passages`, by `weight`."""

    passages: int = FEEDBACK_PASSAGES
    weight: float = FEEDBACK_WEIGHT


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiQuery:
    """Search for `count` other phrasings, too, each list of theirs by `weight` beside the query's.

    The first of `generators` that writes free text writes them; `named` says that the caller asked for it.
    """

    count: int = PHRASINGS
    weight: float = PHRASING_WEIGHT
    generators: tuple[str, ...] = ()
    named: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the caller said; None means not said."""

    top_k: int | None = None
    mode: Mode = Mode.HYBRID
    fusion_method: Method = Method.RRF
    rrf_k: int | None = None
    dense_weight: float | None = None
    sparse_weight: float | None = None
    rerank: bool | None = None
    rerank_depth: int | None = None
    rerank_weight: float | None = None
    narrowed: Filter | None = None
    dense_score_min: float | None = None
    max_per_document: int | None = None
    diversity_balance: float | None = None
    exact: bool = False
    neighbours: int = 0
    explain: bool = False
    feedback: Feedback | None = None
    language: str = ""
    multi_query: MultiQuery | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A part of a ranking of `depth` passages: those from `offset` on, read at `generation`; None is the latest one."""

    depth: int
    offset: int = 0
    generation: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerank:
    """Let the cross-encoder read `depth` candidates, and weigh its z-scores by `weight`."""

    depth: int
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A search with every default filled in; returns the `top_k` passages from `offset` on of a ranking of `depth`."""

    text: str
    top_k: int
    mode: Mode
    fusion: Fusion
    rerank: Rerank | None
    paging_depth: int = 0
    offset: int = 0
    narrowed: Filter | None = None
    dense_score_min: float | None = None
    max_per_document: int | None = None
    diversity_balance: float | None = None
    exact: bool = False
    neighbours: int = 0
    explain: bool = False
    feedback: Feedback | None = None
    languages: tuple[str, ...] = ("en",)
    multi_query: MultiQuery | None = None
    # Who asks. Here, so that no reply is cached for one caller and given to another.
    identities: tuple[str, ...] = ()

    @staticmethod
    def of(
        text: str,
        options: Options,
        collection: Collection,
        config: GatewayConfig,
        *,
        top_k_default: int,
        page: Page | None = None,
    ) -> "Query":
        """Fill in the defaults of the collection and the server; raises InvalidInput for a combination that cannot be."""
        top_k = options.top_k or top_k_default
        depth = max(top_k, page.depth) if page else top_k
        fusion = Fusion(
            method=options.fusion_method,
            k=options.rrf_k or config.rrf_k,
            dense_weight=options.dense_weight or config.dense_weight,
            sparse_weight=options.sparse_weight or config.sparse_weight,
        )
        _check_bounds(options, top_k, depth)
        return Query(
            text=text,
            top_k=top_k,
            mode=options.mode,
            fusion=fusion,
            rerank=_rerank(options, depth, collection, config),
            paging_depth=page.depth if page else 0,
            offset=page.offset if page else 0,
            narrowed=options.narrowed,
            dense_score_min=options.dense_score_min,
            max_per_document=options.max_per_document,
            diversity_balance=options.diversity_balance,
            exact=options.exact,
            neighbours=options.neighbours,
            explain=options.explain,
            feedback=options.feedback,
            languages=(options.language,) if options.language else collection.languages,
            multi_query=_multi_query(options, collection, config),
            identities=call.identities(),
        )

    @property
    def depth(self) -> int:
        """How many passages are ranked."""
        return max(self.top_k, self.paging_depth)

    @property
    def candidates(self) -> int:
        """How many candidates the first stage is asked for."""
        if self.rerank is not None:
            return self.rerank.depth
        if self.diversity_balance is not None:
            return min(DIVERSITY_POOL_MAX, max(DIVERSITY_POOL_MIN, DIVERSITY_POOL_FACTOR * self.depth))
        return self.depth


def _check_bounds(options: Options, top_k: int, depth: int) -> None:
    if options.neighbours and top_k > NEIGHBOURS_TOP_K_MAX:
        problem = (
            f"options.neighbours: with top_k = {top_k}; at most {NEIGHBOURS_TOP_K_MAX} passages can have neighbours"
        )
        raise InvalidInput(problem, field="options.neighbours")
    if options.diversity_balance is not None and depth > DIVERSITY_POOL_MAX:
        problem = f"options.diversity: {depth} passages wanted; at most {DIVERSITY_POOL_MAX} can be chosen by diversity"
        raise InvalidInput(problem, field="options.diversity")


def _multi_query(options: Options, collection: Collection, config: GatewayConfig) -> MultiQuery | None:
    wanted = options.multi_query
    if wanted is not None and options.fusion_method is Method.RELATIVE_SCORE:
        problem = (
            "options.multi_query: lists of several phrasings are fused by reciprocal ranks, not by relative scores"
        )
        raise InvalidInput(problem, field="options.multi_query")
    if wanted is None or wanted.named:
        return wanted
    return replace(wanted, generators=collection.generators or config.generators or ("",))


def _rerank(options: Options, depth: int, collection: Collection, config: GatewayConfig) -> Rerank | None:
    said = (options.rerank, collection.rerank, config.rerank_default)
    if not next(choice for choice in said if choice is not None):
        return None
    if depth > RERANK_DEPTH_MAX:
        if options.rerank:
            problem = f"options.top_k: {depth}; at most {RERANK_DEPTH_MAX} passages can be reranked"
            raise InvalidInput(problem, field="options.top_k")
        return None
    if options.rerank_depth is not None and options.rerank_depth < depth:
        problem = f"options.rerank.depth: {options.rerank_depth}; it must be at least top_k = {depth}"
        raise InvalidInput(problem, field="options.rerank.depth")
    return Rerank(
        depth=options.rerank_depth or max(depth, config.rerank_depth),
        weight=options.rerank_weight or config.rerank_weight,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A candidate in its final place.

    Attributes:
        candidate: the passage, with the first stage's score.
        final: what the order follows, unless diversity was asked for.
        rerank: the logit, if the cross-encoder read it.
        dense: place in the dense stage, if its list was looked at.
        sparse: place in the BM25 stage, likewise.
        neighbours: the passages around it, in the document's order.
    """

    candidate: Candidate
    final: float
    rerank: float | None = None
    dense: Placed | None = None
    sparse: Placed | None = None
    neighbours: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Degradation:
    """A stage that was skipped ("embed": found by BM25 alone; "rerank": the first stage's order; "expand": fewer phrasings), and why."""

    stage: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Microseconds a stage."""

    embed_us: int
    search_us: int
    rerank_us: int
    total_us: int
    expand_us: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Passages of one generation, best first; see `Passage.final`.

    `mode` is how they were found, which a skipped stage may have changed; `is_last` that the ranking ends with them; `embedding` the
    tier of the cache that the query's vector came from, if there was one.
    """

    mode: Mode
    passages: tuple[Passage, ...]
    generation: int
    degraded: tuple[Degradation, ...]
    timings: Timings
    is_last: bool = True
    embedding: Tier | None = None
