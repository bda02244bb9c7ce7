"""Ranking metrics over one query's ranked document ids and its gains."""

import math
import random
import statistics
from collections.abc import Mapping, Sequence


def ndcg(ranked: Sequence[str], gains: Mapping[str, int], k: int) -> float:
    """Normalised discounted cumulative gain at `k` with linear gains, as trec_eval computes it."""
    found = sum(gains.get(document, 0) / math.log2(place + 2) for place, document in enumerate(ranked[:k]))
    ideal = sum(gain / math.log2(place + 2) for place, gain in enumerate(sorted(gains.values(), reverse=True)[:k]))
    return found / ideal


def recall(ranked: Sequence[str], gains: Mapping[str, int], k: int) -> float:
    """Share of the relevant documents among the first `k`."""
    return len(set(ranked[:k]) & set(gains)) / len(gains)


def success(ranked: Sequence[str], gains: Mapping[str, int], k: int) -> float:
    """1 if a relevant document is among the first `k`, else 0."""
    return float(any(document in gains for document in ranked[:k]))


def reciprocal_rank(ranked: Sequence[str], gains: Mapping[str, int], k: int) -> float:
    """1 / rank of the first relevant document among the first `k`, else 0."""
    return next((1 / (place + 1) for place, document in enumerate(ranked[:k]) if document in gains), 0.0)


def interval(values: Sequence[float], *, draws: int = 1000, seed: int = 0) -> tuple[float, float]:
    """The 95 % bootstrap interval of the mean (percentiles over resampled queries; Efron 1979); the same for the same values."""
    draw = random.Random(seed)  # noqa: S311 - resampling
    means = sorted(statistics.fmean(draw.choices(values, k=len(values))) for _ in range(draws))
    return means[round(0.025 * (draws - 1))], means[round(0.975 * (draws - 1))]
