"""Choosing results that are relevant and unlike each other."""

import numpy as np
from numpy.typing import NDArray

from gannet_kernels._heap import ranks_before
from gannet_kernels._jit import FAST_SUMS, kernel


@kernel("f32[:]", "f32[:,:]", "i64", "f64", fastmath=FAST_SUMS)
def mmr(relevance: NDArray[np.float32], rows: NDArray[np.float32], k: int, balance: float) -> NDArray[np.int64]:
    """Maximal marginal relevance: picks, one after the other, the row of greatest marginal relevance.

    balance·relevance - (1 - balance)·max(dot product with a picked row), Carbonell & Goldstein 1998; the first pick is
    the most relevant row. Every row remembers its nearest picked one, so that k picks take k passes.
    Reference: `tests/reference/diversity.py`.

    Args:
        relevance: f32[N], on the scale of a dot product of two rows; N may be 0.
        rows: f32[N, D], finite, each of length 1.
        k: >= 0.
        balance: 0..1; 1 is relevance alone.

    Returns:
        i64[min(k, N)], places in the order of picking. Of equals the lower place; NaN relevance comes last.

    Raises:
        ValueError: k is negative, balance is not in 0..1, or there are not as many rows as relevances.
    """
    count, dim = rows.shape
    if relevance.shape[0] != count:
        raise ValueError("relevance and rows differ in number")
    if k < 0:
        raise ValueError("k is negative")
    if not 0.0 <= balance <= 1.0:
        raise ValueError("balance is not in 0..1")
    size = min(k, count)
    picked = np.empty(size, dtype=np.int64)
    is_left = np.ones(count, dtype=np.bool_)
    nearest = np.full(count, -np.inf, dtype=np.float32)
    values = relevance.astype(np.float64)
    for pick in range(size):
        best = -1
        for row in range(count):
            if is_left[row] and (best < 0 or ranks_before(values[row], row, values[best], best)):
                best = row
        picked[pick] = best
        is_left[best] = False
        for row in range(count):
            if not is_left[row]:
                continue
            likeness = np.float32(0.0)
            for column in range(dim):
                likeness += rows[row, column] * rows[best, column]
            nearest[row] = max(nearest[row], likeness)
            values[row] = balance * relevance[row] - (1.0 - balance) * nearest[row]
    return picked
