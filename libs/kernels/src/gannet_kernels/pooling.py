"""Masked mean pooling fused with L2 normalisation."""

import numpy as np
from numpy.typing import NDArray

from gannet_kernels._jit import FAST_SUMS, kernel


@kernel(fastmath=FAST_SUMS)
def mean_pool(
    hidden: NDArray[np.float32],
    mask: NDArray[np.int64],
    normalise: bool,  # noqa: FBT001 - Numba functions take their arguments by position
) -> NDArray[np.float32]:
    """Averages the rows whose mask is not zero and, if asked, scales the mean to length 1.

    Sentence-BERT's mean pooling (Reimers & Gurevych 2019, section 3) in one pass over the tokens.
    Reference: `tests/reference/pooling.py`.

    Args:
        hidden: f32[T, D], C-contiguous, token embeddings; T may be 0.
        mask: i64[T], zero for padding.
        normalise: divide by the L2 norm.

    Returns:
        f32[D]. All zeros if no row is kept. A mean of norm 0 stays zero rather than becoming NaN. NaN or infinity in
        a kept row reaches the result; rows that are masked out are never read.
    """
    length, dim = hidden.shape
    pooled = np.zeros(dim, dtype=np.float32)
    kept = 0
    for row in range(length):
        if mask[row] != 0:
            kept += 1
            for column in range(dim):
                pooled[column] += hidden[row, column]
    if kept == 0:
        return pooled
    scale = np.float32(1.0) / np.float32(kept)
    squares = 0.0
    for column in range(dim):
        pooled[column] *= scale
        squares += np.float64(pooled[column]) * np.float64(pooled[column])
    if normalise and squares != 0.0:
        scale = np.float32(1.0 / np.sqrt(squares))
        for column in range(dim):
            pooled[column] *= scale
    return pooled
