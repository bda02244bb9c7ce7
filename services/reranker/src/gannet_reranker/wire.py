"""Protobuf to and from what the reranker works with; every limit of a request is checked here."""

import math
from dataclasses import dataclass

from gannet.reranker.v1 import reranker_pb2 as pb
from gannet_reranker.ranking import Ranking
from gannet_service.errors import InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a request may hold."""

    batch_passages_max: int
    text_bytes_max: int


def check(request: pb.RerankRequest, limits: Limits) -> None:
    """Refuse a request that breaks a limit.

    Raises:
        InvalidInput: naming the field and the limit.
    """
    if not request.query.strip():
        raise InvalidInput("query: must not be empty", field="query")
    _check_size("query", request.query, limits.text_bytes_max)
    count = len(request.passages)
    if not 1 <= count <= limits.batch_passages_max:
        raise InvalidInput(f"passages: {count} passages, must be 1 to {limits.batch_passages_max}", field="passages")
    for place, passage in enumerate(request.passages):
        _check_size(f"passages[{place}]", passage, limits.text_bytes_max)


def _check_size(field: str, text: str, bytes_max: int) -> None:
    size = len(text.encode())
    if size > bytes_max:
        raise InvalidInput(f"{field}: {size} bytes, must be at most {bytes_max}", field=field, reason="TEXT_TOO_LONG")


def to_response(ranking: Ranking, request: pb.RerankRequest, total_s: float) -> pb.RerankResponse:
    """The reply: the best `top_n`, as logits or mapped to (0, 1). Sorting came first, so a saturated sigmoid ties nothing."""
    results = ranking.results[: request.top_n] if request.top_n else ranking.results
    return pb.RerankResponse(
        results=[
            pb.RerankResult(
                index=ranked.index,
                score=_sigmoid(ranked.logit) if request.sigmoid else ranked.logit,
                truncated=ranked.truncated,
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


def _sigmoid(logit: float) -> float:
    # By way of tanh, which cannot overflow.
    return 0.5 * (1.0 + math.tanh(0.5 * logit))


def _us(seconds: float) -> int:
    return round(seconds * 1e6)
