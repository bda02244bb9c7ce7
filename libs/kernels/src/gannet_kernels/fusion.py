"""Weighted fusion of first-stage scores with reranker logits."""

import numpy as np
from numpy.typing import NDArray

from gannet_kernels._jit import EXACT, kernel


@kernel(fastmath=EXACT)
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


@kernel(fastmath=EXACT)
def fuse_z_scores(first: NDArray[np.float64], logits: NDArray[np.float64], weight: float) -> NDArray[np.float64]:
    """Adds the z-scored logits, times a weight, to the z-scored first stage: z(first) + weight·z(logits).

    Reference: `tests/reference/fusion.py`.

    Args:
        first: f64[N], finite, the first stage's scores, greater is better.
        logits: f64[N], finite, the reranker's logits of the same candidates.
        weight: >= 0; 0 leaves the first stage's order.

    Returns:
        f64[N], comparable within one call only.
    """
    return z_scores(first) + weight * z_scores(logits)


@kernel(fastmath=EXACT)
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
