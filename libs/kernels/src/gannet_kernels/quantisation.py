"""Dense vectors in fewer bits: int8 levels with one scale, or one bit a component.

Reference: `tests/reference/dense.py`.
"""

import numpy as np
from numpy.typing import NDArray

from gannet_kernels._jit import EXACT, kernel

INT8_MAX = np.float32(127.0)


@kernel("f32[:]", fastmath=EXACT)
def to_int8(vector: NDArray[np.float32]) -> tuple[NDArray[np.int8], np.float32]:
    """Rounds components to 255 levels that lie evenly around zero; the greatest magnitude takes the last level.

    Args:
        vector: f32[D], finite; D may be 0.

    Returns:
        Levels i8[D], -127..127, and the scale that they are to be multiplied by: the greatest magnitude divided by 127,
        as float32, so that whoever multiplies has the very number that divided. Zeros have scale 0.
    """
    greatest = np.float32(0.0)
    for column in range(vector.shape[0]):
        greatest = max(greatest, abs(vector[column]))
    scale = greatest / INT8_MAX
    levels = np.zeros(vector.shape[0], dtype=np.int8)
    if scale == 0.0:
        return levels, scale
    for column in range(vector.shape[0]):
        # The scale of a vector that is barely a number at all is rounded down so far that a level would not fit.
        level = max(-INT8_MAX, min(INT8_MAX, np.rint(vector[column] / scale)))
        levels[column] = np.int8(level)
    return levels, scale


@kernel("f32[:]", fastmath=EXACT)
def to_bits(vector: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Keeps one bit a component, 1 for > 0, highest bit first.

    Args:
        vector: f32[D]; D may be 0. NaN is not > 0.

    Returns:
        u8[ceil(D / 8)], the last byte filled up with zeros.
    """
    packed = np.zeros((vector.shape[0] + 7) // 8, dtype=np.uint8)
    whole = vector.shape[0] // 8
    for byte in range(whole):
        bits = np.uint8(0)
        for bit in range(8):
            bits |= np.uint8(vector[8 * byte + bit] > 0.0) << np.uint8(7 - bit)
        packed[byte] = bits
    for column in range(8 * whole, vector.shape[0]):
        packed[whole] |= np.uint8(vector[column] > 0.0) << np.uint8(7 - column % 8)
    return packed
