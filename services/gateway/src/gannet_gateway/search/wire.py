"""Searches between protobuf and the gateway's own types."""

import hashlib
import math

from google.protobuf.duration_pb2 import Duration

from gannet.gateway.v1 import search_pb2
from gannet_gateway.cache.tiers import Tier
from gannet_gateway.documents.wire import to_struct
from gannet_gateway.names import CollectionName, to_generators
from gannet_gateway.paging import read_token, write_token
from gannet_gateway.search import filter as filters
from gannet_gateway.search.query import (
    FEEDBACK_PASSAGES,
    FEEDBACK_WEIGHT,
    NEIGHBOURS_TOP_K_MAX,
    PHRASING_WEIGHT,
    PHRASINGS,
    RERANK_DEPTH_MAX,
    Feedback,
    Mode,
    MultiQuery,
    Options,
    Page,
    Passage,
    Result,
    Timings,
)
from gannet_gateway.search.terms import check_language
from gannet_gateway.vectors.lists import Method
from gannet_gateway.vectors.points import Candidate
from gannet_service.errors import GannetError, InvalidInput, to_status

WEIGHT_MAX = 100.0
RRF_K_MAX = 1000
PAGING_DEPTH_MAX = 1000
PER_DOCUMENT_MAX = 100
NEIGHBOURS_MAX = 5
FEEDBACK_PASSAGES_MAX = 10
FEEDBACK_WEIGHT_MAX = 10.0
# The embedded Qdrant fuses at most 8 lists, two for the query and two for each phrasing.
PHRASINGS_MAX = 3
BALANCE_DEFAULT = 0.7
BATCH_QUERIES_MAX = 32
# Of all searches of a batch, so that its reply is no larger than that of one search may be.
BATCH_PASSAGES_MAX = 1000
STALENESS_S_MAX = 60.0

_Message = (
    search_pb2.SearchOptions
    | search_pb2.FusionOptions
    | search_pb2.RerankOptions
    | search_pb2.DiversityOptions
    | search_pb2.FeedbackOptions
    | search_pb2.MultiQueryOptions
)

_MODES = {
    search_pb2.SEARCH_MODE_UNSPECIFIED: Mode.HYBRID,
    search_pb2.SEARCH_MODE_DENSE: Mode.DENSE,
    search_pb2.SEARCH_MODE_SPARSE: Mode.SPARSE,
    search_pb2.SEARCH_MODE_HYBRID: Mode.HYBRID,
}
_METHODS = {
    search_pb2.FUSION_METHOD_UNSPECIFIED: Method.RRF,
    search_pb2.FUSION_METHOD_RRF: Method.RRF,
    search_pb2.FUSION_METHOD_RELATIVE_SCORE: Method.RELATIVE_SCORE,
}
_TIERS = {
    None: search_pb2.CACHE_TIER_UNSPECIFIED,
    Tier.COMPUTED: search_pb2.CACHE_TIER_MISS,
    Tier.LOCAL: search_pb2.CACHE_TIER_LOCAL,
    Tier.SHARED: search_pb2.CACHE_TIER_SHARED,
}


def check_query(text: str, bytes_max: int, field: str = "query") -> str:
    """The query if it can be searched for."""
    size = len(text.encode())
    if size > bytes_max:
        raise InvalidInput(f"{field}: {size} bytes; the limit is {bytes_max}", field=field)
    if not text.strip():
        raise InvalidInput(f"{field}: empty", field=field)
    return text


def check_batch(queries: int, top_k: int, neighbours: int) -> None:
    """Raises InvalidInput for a batch of too many queries, or none, or of too many passages."""
    if not 1 <= queries <= BATCH_QUERIES_MAX:
        raise InvalidInput(f"queries: {queries}; the limits are 1 to {BATCH_QUERIES_MAX}", field="queries")
    limit = NEIGHBOURS_TOP_K_MAX if neighbours else BATCH_PASSAGES_MAX
    if queries * top_k > limit:
        behind = " with neighbours" if neighbours else ""
        problem = f"options.top_k: {top_k} for each of {queries} queries; a batch may ask for {limit} passages{behind}"
        raise InvalidInput(problem, field="options.top_k")


def from_outcome(outcome: bytes | GannetError) -> search_pb2.BatchSearchResult:
    """What became of one query: the bytes of its reply, or why there is none."""
    if isinstance(outcome, GannetError):
        return search_pb2.BatchSearchResult(error=to_status(outcome))
    return search_pb2.BatchSearchResult(response=search_pb2.SearchResponse.FromString(outcome))


def to_options(message: search_pb2.SearchOptions, *, prefix: str, top_k_max: int, filter_bytes_max: int) -> Options:
    """Search options, every value checked against its limits; `prefix` names the message in errors."""
    if message.mode not in _MODES:
        raise InvalidInput(f"{prefix}.mode: {message.mode} is not a SearchMode", field=f"{prefix}.mode")
    fusion, rerank = message.fusion, message.rerank
    if fusion.method not in _METHODS:
        field = f"{prefix}.fusion.method"
        raise InvalidInput(f"{field}: {fusion.method} is not a FusionMethod", field=field)
    balance = _number(message.diversity, "balance", f"{prefix}.diversity", 0.0, 1.0)
    if message.neighbours > NEIGHBOURS_MAX:
        problem = f"{prefix}.neighbours: {message.neighbours}; the limits are 0 to {NEIGHBOURS_MAX}"
        raise InvalidInput(problem, field=f"{prefix}.neighbours")
    return Options(
        top_k=_integer(message, "top_k", prefix, top_k_max),
        mode=_MODES[message.mode],
        fusion_method=_METHODS[fusion.method],
        rrf_k=_integer(fusion, "k", f"{prefix}.fusion", RRF_K_MAX),
        dense_weight=_weight(fusion, "dense_weight", f"{prefix}.fusion"),
        sparse_weight=_weight(fusion, "sparse_weight", f"{prefix}.fusion"),
        rerank=rerank.enabled if rerank.HasField("enabled") else None,
        rerank_depth=_integer(rerank, "depth", f"{prefix}.rerank", RERANK_DEPTH_MAX),
        rerank_weight=_weight(rerank, "weight", f"{prefix}.rerank"),
        narrowed=filters.parse(message.filter, f"{prefix}.filter", bytes_max=filter_bytes_max),
        dense_score_min=_number(message, "dense_score_min", prefix, -1.0, 1.0),
        max_per_document=_integer(message, "max_per_document", prefix, PER_DOCUMENT_MAX),
        diversity_balance=(BALANCE_DEFAULT if balance is None else balance) if message.HasField("diversity") else None,
        exact=message.exact,
        neighbours=message.neighbours,
        explain=message.explain,
        feedback=_feedback(message.feedback, f"{prefix}.feedback") if message.HasField("feedback") else None,
        language=check_language(message.language, f"{prefix}.language"),
        multi_query=(
            _multi_query(message.multi_query, f"{prefix}.multi_query") if message.HasField("multi_query") else None
        ),
    )


def _feedback(message: search_pb2.FeedbackOptions, prefix: str) -> Feedback:
    if message.passages > FEEDBACK_PASSAGES_MAX:
        problem = f"{prefix}.passages: {message.passages}; the limits are 1 to {FEEDBACK_PASSAGES_MAX}"
        raise InvalidInput(problem, field=f"{prefix}.passages")
    weight = _weight(message, "weight", prefix, FEEDBACK_WEIGHT_MAX)
    return Feedback(
        passages=message.passages or FEEDBACK_PASSAGES, weight=FEEDBACK_WEIGHT if weight is None else weight
    )


def _multi_query(message: search_pb2.MultiQueryOptions, prefix: str) -> MultiQuery:
    if message.queries > PHRASINGS_MAX:
        problem = f"{prefix}.queries: {message.queries}; the limits are 1 to {PHRASINGS_MAX}"
        raise InvalidInput(problem, field=f"{prefix}.queries")
    weight = _weight(message, "weight", prefix)
    return MultiQuery(
        count=message.queries or PHRASINGS,
        weight=PHRASING_WEIGHT if weight is None else weight,
        generators=to_generators([message.generator] if message.generator else [], f"{prefix}.generator"),
        named=bool(message.generator),
    )


def to_staleness_s(message: Duration) -> float:
    """How old the generation may be that the search reads, seconds."""
    seconds = message.seconds + message.nanos / 1e9
    if not 0 <= seconds <= STALENESS_S_MAX:
        problem = f"max_staleness: {seconds:g} s; the limits are 0 to {STALENESS_S_MAX:g} s"
        raise InvalidInput(problem, field="max_staleness")
    return seconds


def to_page(request: search_pb2.SearchRequest, collection: CollectionName) -> Page:
    """Which part of which ranking is wanted.

    Raises:
        InvalidInput: the depth is out of its limits, or the token is one of another search.
    """
    if request.paging_depth > PAGING_DEPTH_MAX:
        problem = f"paging_depth: {request.paging_depth}; the limits are 0 to {PAGING_DEPTH_MAX}"
        raise InvalidInput(problem, field="paging_depth")
    place = read_token(_paging_scope(request, collection), request.page_token)
    generation, _, offset = place.partition("/")
    if place and not (generation.isascii() and generation.isdigit() and offset.isascii() and offset.isdigit()):
        raise InvalidInput("page_token: not one that this server gave", field="page_token")
    if place:
        return Page(depth=request.paging_depth, offset=int(offset), generation=int(generation))
    return Page(depth=request.paging_depth, generation=request.generation or None)


def _paging_scope(request: search_pb2.SearchRequest, collection: CollectionName) -> str:
    """What a token is bound to: the collection and everything that was asked for."""
    asked = search_pb2.SearchRequest()
    asked.CopyFrom(request)
    asked.page_token, asked.parent = "", ""
    digest = hashlib.sha256(asked.SerializeToString(deterministic=True)).hexdigest()
    return f"{collection}/search/{digest}"


def next_page_token(request: search_pb2.SearchRequest, collection: CollectionName, result: Result, end: int) -> str:
    """Continues after the ranking's first `end` passages; empty where nothing follows."""
    if not request.paging_depth or result.is_last:
        return ""
    return write_token(_paging_scope(request, collection), f"{result.generation}/{end}")


def from_result(result: Result, next_token: str) -> search_pb2.SearchResponse:
    """A search's reply, with nothing said of a cache for whole replies."""
    response = shared_fields(result)
    response.next_page_token = next_token
    response.MergeFromString(own_fields(result.timings, None, result.embedding))
    return response


def shared_fields(result: Result) -> search_pb2.SearchResponse:
    """What every caller's reply holds."""
    return search_pb2.SearchResponse(
        passages=[from_passage(passage, result.mode) for passage in result.passages],
        generation=result.generation,
        degraded=[search_pb2.Degradation(stage=entry.stage, reason=entry.reason) for entry in result.degraded],
    )


def own_fields(timings: Timings, result: Tier | None, embedding: Tier | None) -> bytes:
    """The rest, which is one call's own, as the bytes of a reply."""
    hits = search_pb2.CacheHits(result=_TIERS[result], embedding=_TIERS[embedding])
    return search_pb2.SearchResponse(timings=from_timings(timings), cache_hits=hits).SerializeToString()


def total_only(seconds: float) -> Timings:
    """The timings of a call that computed nothing."""
    return Timings(embed_us=0, search_us=0, rerank_us=0, total_us=round(seconds * 1e6))


def from_passage(passage: Passage, mode: Mode) -> search_pb2.Passage:
    """One passage; `mode` is how it was found."""
    message = _from_candidate(passage.candidate)
    scores = message.scores
    scores.final = passage.final
    match mode:
        case Mode.DENSE:
            scores.dense = passage.candidate.score
        case Mode.SPARSE:
            scores.sparse = passage.candidate.score
        case Mode.HYBRID:
            scores.fused = passage.candidate.score
            if passage.dense is not None:
                scores.dense, scores.dense_rank = passage.dense.score, passage.dense.rank or 0
            if passage.sparse is not None:
                scores.sparse, scores.sparse_rank = passage.sparse.score, passage.sparse.rank or 0
    if passage.rerank is not None:
        scores.rerank = passage.rerank
    message.neighbours.extend(map(_from_candidate, passage.neighbours))
    return message


def _from_candidate(candidate: Candidate) -> search_pb2.Passage:
    return search_pb2.Passage(
        name=f"{candidate.document}/chunks/{candidate.ordinal}",
        document=str(candidate.document),
        revision=candidate.revision,
        text=candidate.text,
        start_byte=candidate.start_byte,
        end_byte=candidate.end_byte,
        title=candidate.title,
        metadata=to_struct(candidate.metadata),
    )


def from_timings(timings: Timings) -> search_pb2.SearchTimings:
    """Where the time of a search went."""
    return search_pb2.SearchTimings(
        embed_us=timings.embed_us,
        search_us=timings.search_us,
        rerank_us=timings.rerank_us,
        total_us=timings.total_us,
        expand_us=timings.expand_us,
    )


def _integer(message: _Message, name: str, prefix: str, limit: int) -> int | None:
    if not message.HasField(name):  # pyright: ignore[reportArgumentType] - the stub wants a literal
        return None
    value: int = getattr(message, name)
    if not 1 <= value <= limit:
        raise InvalidInput(f"{prefix}.{name}: {value}; the limits are 1 to {limit}", field=f"{prefix}.{name}")
    return value


def _number(message: _Message, name: str, prefix: str, least: float, most: float) -> float | None:
    if not message.HasField(name):  # pyright: ignore[reportArgumentType] - the stub wants a literal
        return None
    value: float = getattr(message, name)
    if not least <= value <= most:  # NaN is not
        raise InvalidInput(f"{prefix}.{name}: {value}; the limits are {least:g} to {most:g}", field=f"{prefix}.{name}")
    return value


def _weight(message: _Message, name: str, prefix: str, most: float = WEIGHT_MAX) -> float | None:
    if not message.HasField(name):  # pyright: ignore[reportArgumentType] - the stub wants a literal
        return None
    value: float = getattr(message, name)
    if not (math.isfinite(value) and 0 < value <= most):
        problem = f"{prefix}.{name}: {value}; it must be greater than 0 and at most {most:g}"
        raise InvalidInput(problem, field=f"{prefix}.{name}")
    return value
