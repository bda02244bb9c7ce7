"""Searches between protobuf and the gateway's own types."""

import math

from gannet.gateway.v1 import search_pb2
from gannet_gateway.documents.wire import to_struct
from gannet_gateway.search.query import RERANK_DEPTH_MAX, Mode, Options, Passage, Result, Timings
from gannet_service.errors import InvalidInput

WEIGHT_MAX = 100.0
RRF_K_MAX = 1000

_MODES = {
    search_pb2.SEARCH_MODE_UNSPECIFIED: Mode.HYBRID,
    search_pb2.SEARCH_MODE_DENSE: Mode.DENSE,
    search_pb2.SEARCH_MODE_SPARSE: Mode.SPARSE,
    search_pb2.SEARCH_MODE_HYBRID: Mode.HYBRID,
}


def check_query(text: str, bytes_max: int) -> str:
    """The query if it can be searched for."""
    size = len(text.encode())
    if size > bytes_max:
        raise InvalidInput(f"query: {size} bytes; the limit is {bytes_max}", field="query")
    if not text.strip():
        raise InvalidInput("query: empty", field="query")
    return text


def to_options(message: search_pb2.SearchOptions, *, prefix: str, top_k_max: int) -> Options:
    """Search options, every value checked against its limits; `prefix` names the message in errors."""
    if message.mode not in _MODES:
        raise InvalidInput(f"{prefix}.mode: {message.mode} is not a SearchMode", field=f"{prefix}.mode")
    fusion, rerank = message.fusion, message.rerank
    return Options(
        top_k=_integer(message, "top_k", prefix, top_k_max),
        mode=_MODES[message.mode],
        rrf_k=_integer(fusion, "k", f"{prefix}.fusion", RRF_K_MAX),
        dense_weight=_weight(fusion, "dense_weight", f"{prefix}.fusion"),
        sparse_weight=_weight(fusion, "sparse_weight", f"{prefix}.fusion"),
        rerank=rerank.enabled if rerank.HasField("enabled") else None,
        rerank_depth=_integer(rerank, "depth", f"{prefix}.rerank", RERANK_DEPTH_MAX),
        rerank_weight=_weight(rerank, "weight", f"{prefix}.rerank"),
    )


def from_result(result: Result) -> search_pb2.SearchResponse:
    """A search's reply."""
    return search_pb2.SearchResponse(
        passages=[from_passage(passage, result.mode) for passage in result.passages],
        generation=result.generation,
        degraded=[search_pb2.Degradation(stage=entry.stage, reason=entry.reason) for entry in result.degraded],
        timings=from_timings(result.timings),
    )


def from_passage(passage: Passage, mode: Mode) -> search_pb2.Passage:
    """One passage."""
    candidate = passage.candidate
    scores = search_pb2.Scores(final=passage.final)
    match mode:
        case Mode.DENSE:
            scores.dense = candidate.score
        case Mode.SPARSE:
            scores.sparse = candidate.score
        case Mode.HYBRID:
            scores.fused = candidate.score
    if passage.rerank is not None:
        scores.rerank = passage.rerank
    return search_pb2.Passage(
        name=f"{candidate.document}/chunks/{candidate.ordinal}",
        document=str(candidate.document),
        revision=candidate.revision,
        text=candidate.text,
        start_byte=candidate.start_byte,
        end_byte=candidate.end_byte,
        title=candidate.title,
        metadata=to_struct(candidate.metadata),
        scores=scores,
    )


def from_timings(timings: Timings) -> search_pb2.SearchTimings:
    """Where the time of a search went."""
    return search_pb2.SearchTimings(
        embed_us=timings.embed_us,
        search_us=timings.search_us,
        rerank_us=timings.rerank_us,
        total_us=timings.total_us,
    )


def _integer(
    message: search_pb2.SearchOptions | search_pb2.FusionOptions | search_pb2.RerankOptions,
    name: str,
    prefix: str,
    limit: int,
) -> int | None:
    if not message.HasField(name):  # pyright: ignore[reportArgumentType] - the stub wants a literal
        return None
    value: int = getattr(message, name)
    if not 1 <= value <= limit:
        raise InvalidInput(f"{prefix}.{name}: {value}; the limits are 1 to {limit}", field=f"{prefix}.{name}")
    return value


def _weight(message: search_pb2.FusionOptions | search_pb2.RerankOptions, name: str, prefix: str) -> float | None:
    if not message.HasField(name):  # pyright: ignore[reportArgumentType] - the stub wants a literal
        return None
    value: float = getattr(message, name)
    if not (math.isfinite(value) and 0 < value <= WEIGHT_MAX):
        problem = f"{prefix}.{name}: {value}; it must be greater than 0 and at most {WEIGHT_MAX:g}"
        raise InvalidInput(problem, field=f"{prefix}.{name}")
    return value
