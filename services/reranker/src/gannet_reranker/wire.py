"""Protobuf to and from what the reranker works with; every limit of a request is checked here."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gannet.reranker.v1 import reranker_pb2 as pb
from gannet_inference.placement import Placement
from gannet_reranker.ranking import Candidates, PassageRanker, Ranking
from gannet_service.errors import InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a request may hold."""

    batch_passages_max: int
    text_bytes_max: int
    windows_max: int
    stream_requests_max: int


def to_candidates(request: pb.RerankRequest, limits: Limits, *, deadline_s: float | None) -> Candidates:
    """What to rank, for a caller who waits until `deadline_s`.

    Raises:
        InvalidInput: naming the field and the limit.
    """
    check_texts(request.query, request.passages, limits, name="passages")
    if request.windows_max > limits.windows_max:
        limit = f"must be 1 to {limits.windows_max}, or 0 for that many"
        raise InvalidInput(f"windows_max: {request.windows_max}, {limit}", field="windows_max")
    return Candidates(
        query=request.query,
        passages=list(request.passages),
        windows_max=request.windows_max or limits.windows_max,
        deadline_s=deadline_s,
    )


def check_texts(query: str, passages: Sequence[str], limits: Limits, *, name: str) -> None:
    """Refuse a query or passages, called `name` in the request, that break a limit.

    Raises:
        InvalidInput: naming the field and the limit.
    """
    if not query.strip():
        raise InvalidInput("query: must not be empty", field="query")
    check_size("query", query, limits)
    if not 1 <= len(passages) <= limits.batch_passages_max:
        raise InvalidInput(f"{name}: {len(passages)} {name}, must be 1 to {limits.batch_passages_max}", field=name)
    for place, passage in enumerate(passages):
        check_size(f"{name}[{place}]", passage, limits)


def check_size(field: str, text: str, limits: Limits) -> None:
    """Refuse a text that is too long.

    Raises:
        InvalidInput: naming the field and the limit.
    """
    size = len(text.encode())
    if size > limits.text_bytes_max:
        raise InvalidInput(
            f"{field}: {size} bytes, must be at most {limits.text_bytes_max}", field=field, reason="TEXT_TOO_LONG"
        )


def to_info(ranker: PassageRanker, limits: Limits, placement: Placement, *, models: Sequence[str]) -> pb.InfoResponse:
    """What there is to say of one of `models`."""
    built = ranker.built
    return pb.InfoResponse(
        model=built.name,
        model_digest=built.digest,
        precision=built.precision,
        tokens_max=built.tokens_max,
        batch_passages_max=limits.batch_passages_max,
        text_bytes_max=limits.text_bytes_max,
        execution_provider=ranker.execution_provider,
        sessions=placement.sessions,
        threads=placement.threads,
        instructions=placement.instructions,
        runtime=placement.runtime,
        models=models,
        windows_max=limits.windows_max,
    )


def to_response(ranking: Ranking, request: pb.RerankRequest, total_s: float) -> pb.RerankResponse:
    """The reply: the best `top_n`, as logits or mapped to (0, 1). Sorting came first, so a saturated sigmoid ties nothing."""
    results = ranking.results[: request.top_n] if request.top_n else ranking.results
    return pb.RerankResponse(
        results=[
            pb.RerankResult(
                index=ranked.index,
                score=sigmoid(ranked.logit) if request.sigmoid else ranked.logit,
                truncated=ranked.truncated,
                windows=ranked.windows,
            )
            for ranked in results
        ],
        timings=pb.Timings(
            queue_us=_us(ranking.queue_s),
            tokenize_us=_us(ranking.tokenize_s),
            inference_us=_us(ranking.inference_s),
            total_us=_us(total_s),
        ),
    )


def sigmoid(logit: float) -> float:
    """The logit mapped to (0, 1)."""
    # By way of tanh, which cannot overflow.
    return 0.5 * (1.0 + math.tanh(0.5 * logit))


def _us(seconds: float) -> int:
    return round(seconds * 1e6)
