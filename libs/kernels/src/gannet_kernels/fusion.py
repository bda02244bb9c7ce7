"""Weighted fusion of the scores of two stages: by z-scores, and relative to their range."""

import numpy as np
from numpy.typing import NDArray

from gannet_kernels._jit import EXACT, kernel


@kernel("f64[:]", fastmath=EXACT)
def z_scores(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shifts scores to mean 0 and scales them to standard deviation 1 (population).

    Reference: `tests/reference/fusion.py`.

    Args:
        scores: f64[N], finite; N may be 0.

    Returns:
        f64[N]. All zeros where the scores are all equal: a stage that cannot tell candidates apart has no say. NaN in,
        NaN out.
    """
    count = scores.shape[0]
    standard = np.zeros(count, dtype=np.float64)
    if count == 0:
        return standard
    # Compared directly: rounding can leave equal scores a tiny deviation, which the division would blow up to noise.
    constant = True
    mean = 0.0
    for place in range(count):
        constant = constant and scores[place] == scores[0]
        mean += scores[place]
    if constant:
        return standard
    mean /= count
    variance = 0.0
    for place in range(count):
        variance += (scores[place] - mean) ** 2
    deviation = np.sqrt(variance / count)
    if deviation == 0.0:
        return standard
    for place in range(count):
        standard[place] = (scores[place] - mean) / deviation
    return standard


@kernel("f64[:]", "f64[:]", "f64", fastmath=EXACT)
def fuse_z_scores(first: NDArray[np.float64], logits: NDArray[np.float64], weight: float) -> NDArray[np.float64]:
    """Adds the z-scored logits, times a weight, to the z-scored first stage: z(first) + weight·z(logits).

    Reference: `tests/reference/fusion.py`.

    Args:
        first: f64[N], finite, the first stage's scores, greater is better.
        logits: f64[N], finite, the reranker's logits of the same candidates.
        weight: >= 0; 0 leaves the first stage's order.

    Returns:
        f64[N], comparable within one call only.

    Raises:
        ValueError: there are not as many logits as scores.
    """
    if first.shape[0] != logits.shape[0]:
        raise ValueError("scores and logits differ in number")
    return z_scores(first) + weight * z_scores(logits)


@kernel("f64[:]", fastmath=EXACT)
def relative_scores(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scales scores to 0..1: the least becomes 0, the greatest 1.

    Reference: `tests/reference/fusion.py`.

    Args:
        scores: f64[N], NaN where a candidate is missing from this list, else finite; N may be 0.

    Returns:
        f64[N]. A missing candidate gets 0.0. Where all scores are equal they become 1.0: to be in the list counts.
    """
    least, greatest = np.inf, -np.inf
    for place in range(scores.shape[0]):
        least = min(least, scores[place])
        greatest = max(greatest, scores[place])
    relative = np.zeros(scores.shape[0], dtype=np.float64)
    # Halved, so that the range of the greatest scores does not overflow.
    span = greatest / 2.0 - least / 2.0
    for place in range(scores.shape[0]):
        if span > 0.0 and not np.isnan(scores[place]):
            relative[place] = (scores[place] / 2.0 - least / 2.0) / span
        elif scores[place] == greatest:
            relative[place] = 1.0
    return relative


@kernel("f64[:]", "f64[:]", "f64", fastmath=EXACT)
def fuse_relative_scores(first: NDArray[np.float64], second: NDArray[np.float64], weight: float) -> NDArray[np.float64]:
    """Adds two lists' relative scores: (1 - weight)·relative(first) + weight·relative(second).

    Unlike reciprocal ranks this keeps how far apart the scores of a list are.
    Reference: `tests/reference/fusion.py`.

    Args:
        first: f64[N], the candidates of either list, NaN where this list does not have one; greater is better.
        second: f64[N], likewise, of the other list.
        weight: 0..1, the share of the second list.

    Returns:
        f64[N], 0..1.

    Raises:
        ValueError: the lists differ in length.
    """
    if first.shape[0] != second.shape[0]:
        raise ValueError("the lists differ in length")
    return (1.0 - weight) * relative_scores(first) + weight * relative_scores(second)


@kernel("f64[:]", fastmath=EXACT)
def order_descending(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Places of the scores from greatest to smallest; equal scores keep their order.

    Reference: `tests/reference/fusion.py`.

    Args:
        scores: f64[N]; N may be 0.

    Returns:
        i64[N], a permutation. NaN sorts last; 0.0 and -0.0 are equal.
    """
    # Mergesort is the stable sort of both Numba and NumPy, and both put NaN last.
    return np.argsort(-scores, kind="mergesort")
