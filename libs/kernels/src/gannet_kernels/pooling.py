"""Token embeddings to one vector per text, over padded batches, fused with L2 normalisation.

All three read `lengths[i]` rows of text i and never its padding. NaN or infinity in a row that is read reaches the
result, so that its caller can refuse it. A vector of norm 0 stays zero rather than becoming NaN.
References: `tests/reference/pooling.py`.
"""

import numpy as np
from numpy.typing import NDArray

from gannet_kernels._jit import FAST_SUMS, kernel


@kernel("f32[:,:,:]", "i64[:]", "bool", fastmath=FAST_SUMS)
def mean_pool(
    hidden: NDArray[np.float32],
    lengths: NDArray[np.int64],
    normalise: bool,
) -> NDArray[np.float32]:
    """Averages each text's rows: Sentence-BERT's mean pooling (Reimers & Gurevych 2019, section 3).

    Args:
        hidden: f32[B, T, D], token embeddings; any axis may be 0.
        lengths: i64[B], rows of each text, 0..T.
        normalise: scale each vector to length 1.

    Returns:
        f32[B, D]; zeros for a text without rows.

    Raises:
        ValueError: there are not B lengths, or one is not in 0..T.
    """
    _check(hidden, lengths)
    pooled = np.zeros((hidden.shape[0], hidden.shape[2]), dtype=np.float32)
    for text in range(hidden.shape[0]):
        length = lengths[text]
        # Four rows at a time: a sum is loaded and stored once for all of them.
        blocks = length // 4 * 4
        for row in range(0, blocks, 4):
            for column in range(hidden.shape[2]):
                pooled[text, column] += (hidden[text, row, column] + hidden[text, row + 1, column]) + (
                    hidden[text, row + 2, column] + hidden[text, row + 3, column]
                )
        for row in range(blocks, length):
            for column in range(hidden.shape[2]):
                pooled[text, column] += hidden[text, row, column]
        if length > 0:
            _scale(pooled, text, np.float32(1.0) / np.float32(length))
        if normalise:
            _normalise(pooled, text)
    return pooled


@kernel("f32[:,:,:]", "i64[:]", "bool", fastmath=FAST_SUMS)
def max_pool(
    hidden: NDArray[np.float32],
    lengths: NDArray[np.int64],
    normalise: bool,
) -> NDArray[np.float32]:
    """Takes each component's greatest value over a text's rows; arguments, result and errors as `mean_pool`."""
    _check(hidden, lengths)
    pooled = np.zeros((hidden.shape[0], hidden.shape[2]), dtype=np.float32)
    for text in range(hidden.shape[0]):
        if lengths[text] > 0:
            pooled[text] = hidden[text, 0]
        for row in range(1, lengths[text]):
            for column in range(hidden.shape[2]):
                value = hidden[text, row, column]
                # The second half is true of NaN alone, and NaN is never left again: nothing is greater.
                if value > pooled[text, column] or value != value:  # noqa: PLR0124
                    pooled[text, column] = value
        if normalise:
            _normalise(pooled, text)
    return pooled


@kernel("f32[:,:,:]", "i64[:]", "bool", fastmath=FAST_SUMS)
def cls_pool(
    hidden: NDArray[np.float32],
    lengths: NDArray[np.int64],
    normalise: bool,
) -> NDArray[np.float32]:
    """Takes each text's first row, that of the [CLS] token; arguments, result and errors as `mean_pool`."""
    _check(hidden, lengths)
    return mean_pool(hidden, np.minimum(lengths, 1), normalise)


@kernel(fastmath=FAST_SUMS)
def _check(hidden: NDArray[np.float32], lengths: NDArray[np.int64]) -> None:
    if lengths.shape[0] != hidden.shape[0]:
        raise ValueError("texts and lengths differ in number")
    for text in range(lengths.shape[0]):
        if lengths[text] < 0 or lengths[text] > hidden.shape[1]:
            raise ValueError("a length is not within the rows")


@kernel(fastmath=FAST_SUMS)
def _normalise(pooled: NDArray[np.float32], text: int) -> None:
    squares = 0.0
    for column in range(pooled.shape[1]):
        squares += np.float64(pooled[text, column]) * np.float64(pooled[text, column])
    if squares != 0.0:
        _scale(pooled, text, np.float32(1.0 / np.sqrt(squares)))


@kernel(fastmath=FAST_SUMS)
def _scale(pooled: NDArray[np.float32], text: int, factor: np.float32) -> None:
    for column in range(pooled.shape[1]):
        pooled[text, column] *= factor
