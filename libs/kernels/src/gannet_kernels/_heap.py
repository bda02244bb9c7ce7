"""A bounded heap of scores, its worst one on top: what keeps the k best of a scan without sorting the rest."""

import numpy as np
from numpy.typing import NDArray

from gannet_kernels._jit import EXACT, kernel


@kernel(fastmath=EXACT)
def ranks_before(score: float, place: int, other_score: float, other_place: int) -> bool:
    """The order of every top-k: greater scores first, NaN last, equal ones by lower place."""
    if score > other_score:
        return True
    if score < other_score:
        return False
    # Equal, or at least one is NaN, which is unequal to itself.
    if (score == score) != (other_score == other_score):  # noqa: PLR0124
        return score == score  # noqa: PLR0124
    return place < other_place


@kernel(fastmath=EXACT)
def sift_down(scores: NDArray[np.float32], places: NDArray[np.int64], top: int, size: int) -> None:
    """Moves what is at `top` down until both of its children rank before it."""
    score, place = scores[top], places[top]
    while 2 * top + 1 < size:
        child = 2 * top + 1
        if child + 1 < size and ranks_before(scores[child], places[child], scores[child + 1], places[child + 1]):
            child += 1
        if ranks_before(scores[child], places[child], score, place):
            break
        scores[top], places[top] = scores[child], places[child]
        top = child
    scores[top], places[top] = score, place


@kernel(fastmath=EXACT)
def heapify(scores: NDArray[np.float32], places: NDArray[np.int64]) -> None:
    """Makes a heap of scores in any order."""
    for top in range(scores.shape[0] // 2 - 1, -1, -1):
        sift_down(scores, places, top, scores.shape[0])


@kernel(fastmath=EXACT)
def sort_heap(scores: NDArray[np.float32], places: NDArray[np.int64]) -> None:
    """Sorts a heap in place, the best score first."""
    for last in range(scores.shape[0] - 1, 0, -1):
        scores[0], scores[last] = scores[last], scores[0]
        places[0], places[last] = places[last], places[0]
        sift_down(scores, places, 0, last)
