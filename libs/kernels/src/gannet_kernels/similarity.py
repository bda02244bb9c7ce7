"""One query against many vectors: dot products, cosines, and the k best of them."""

import numpy as np
from numpy.typing import NDArray

from gannet_kernels._heap import heapify, ranks_before, sift_down, sort_heap
from gannet_kernels._jit import EXACT, FAST_SUMS, kernel


@kernel("f32[:]", "f32[:,:]", fastmath=FAST_SUMS)
def dot_scores(query: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Multiplies every row with the query.

    Four rows at a time, so that a component of the query is loaded once for all of them. That is the fastest while the
    rows fit the processor's caches; a scan of more is `exact_top_k`'s work.
    Reference: `tests/reference/similarity.py`.

    Args:
        query: f32[D].
        rows: f32[N, D]; N may be 0.

    Returns:
        f32[N], sums in float32 in no stated order. NaN or infinity in a row reaches that row's score alone.

    Raises:
        ValueError: the rows have another number of components than the query.
    """
    count, dim = rows.shape
    if query.shape[0] != dim:
        raise ValueError("query and rows differ in their number of components")
    scores = np.empty(count, dtype=np.float32)
    blocks = count // 4 * 4
    for row in range(0, blocks, 4):
        first = second = third = fourth = np.float32(0.0)
        for column in range(dim):
            component = query[column]
            first += component * rows[row, column]
            second += component * rows[row + 1, column]
            third += component * rows[row + 2, column]
            fourth += component * rows[row + 3, column]
        scores[row] = first
        scores[row + 1] = second
        scores[row + 2] = third
        scores[row + 3] = fourth
    for row in range(blocks, count):
        scores[row] = _dot(query, rows, row)
    return scores


@kernel("f32[:]", "f32[:,:]", fastmath=FAST_SUMS)
def cosine_scores(query: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosine of the angle between the query and every row; products and lengths in one pass over a row.

    Reference: `tests/reference/similarity.py`.

    Args:
        query: f32[D], components below 1e18 so that squares do not overflow.
        rows: f32[N, D], likewise; N may be 0.

    Returns:
        f32[N], -1..1 within rounding; 0.0 where the query or the row is all zeros. NaN in a row reaches its score.

    Raises:
        ValueError: the rows have another number of components than the query.
    """
    count, dim = rows.shape
    if query.shape[0] != dim:
        raise ValueError("query and rows differ in their number of components")
    query_squares = np.float32(0.0)
    for column in range(dim):
        query_squares += query[column] * query[column]
    scores = np.empty(count, dtype=np.float32)
    for row in range(count):
        product = squares = np.float32(0.0)
        for column in range(dim):
            component = rows[row, column]
            product += query[column] * component
            squares += component * component
        # In float64: the product of two lengths that are fine by themselves may overflow or vanish in float32.
        lengths = np.sqrt(np.float64(query_squares) * np.float64(squares))
        scores[row] = np.float32(product / lengths) if lengths != 0.0 else np.float32(0.0)
    return scores


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
    Reference: `tests/reference/similarity.py`.

    Args:
        query: f32[D].
        rows: f32[N, D]; N may be 0.
        k: >= 0.

    Returns:
        Places i64[min(k, N)] and their scores, f32, greatest first; ties and NaN as in `top_k`.

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
