"""The k greatest of scores, and the k rows that are the most like a query."""

import numpy as np
from numpy.typing import NDArray

from gannet_kernels._heap import heapify, ranks_before, sift_down, sort_heap
from gannet_kernels._jit import EXACT, FAST_SUMS, kernel


@kernel("f32[:]", "i64", fastmath=EXACT)
def top_k(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Places of the k greatest scores, greatest first.

    A heap of k instead of a sort: O(N) comparisons where few scores are among the best.
    Reference: `tests/reference/similarity.py`.

    Args:
        scores: f32[N]; N may be 0.
        k: >= 0.

    Returns:
        i64[min(k, N)]. Equal scores by lower place; NaN last, behind minus infinity; 0.0 and -0.0 are equal.

    Raises:
        ValueError: k is negative.
    """
    if k < 0:
        raise ValueError("k is negative")
    size = min(k, scores.shape[0])
    places = np.arange(size)
    if size == 0:
        return places
    best = scores[:size].copy()
    heapify(best, places)
    for place in range(size, scores.shape[0]):
        if ranks_before(scores[place], place, best[0], places[0]):
            best[0], places[0] = scores[place], place
            sift_down(best, places, 0, size)
    sort_heap(best, places)
    return places


@kernel("f32[:]", "f32[:,:]", "i64", fastmath=FAST_SUMS)
def exact_top_k(
    query: NDArray[np.float32], rows: NDArray[np.float32], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The k rows with the greatest dot product, in one pass that stores no other score.

    Row by row: of a million rows this reads memory at its full rate, where four rows at a time take twice as long.
    Of rows and a query of length 1 the dot product is the cosine.
    Reference: `tests/reference/similarity.py`.

    Args:
        query: f32[D].
        rows: f32[N, D]; N may be 0.
        k: >= 0.

    Returns:
        Places i64[min(k, N)] and their scores, f32, greatest first, sums in float32 in no stated order; ties and NaN as in
        `top_k`. NaN or infinity in a row reaches that row's score alone.

    Raises:
        ValueError: k is negative, or the rows have another number of components than the query.
    """
    count, dim = rows.shape
    if query.shape[0] != dim:
        raise ValueError("query and rows differ in their number of components")
    if k < 0:
        raise ValueError("k is negative")
    size = min(k, count)
    places = np.arange(size)
    best = np.empty(size, dtype=np.float32)
    if size == 0:
        return places, best
    for row in range(size):
        best[row] = _dot(query, rows, row)
    if size == count:
        # Nothing to choose, only to sort. Mergesort is the stable sort, puts NaN last, and is quick with what is nearly in order.
        places = np.argsort(-best, kind="mergesort")
        return places, best[places]
    heapify(best, places)
    for row in range(size, count):
        score = _dot(query, rows, row)
        if ranks_before(score, row, best[0], places[0]):
            best[0], places[0] = score, row
            sift_down(best, places, 0, size)
    sort_heap(best, places)
    return places, best


@kernel(fastmath=FAST_SUMS)
def _dot(query: NDArray[np.float32], rows: NDArray[np.float32], row: int) -> np.float32:
    total = np.float32(0.0)
    for column in range(query.shape[0]):
        total += query[column] * rows[row, column]
    return total
