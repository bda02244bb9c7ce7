"""A dense vector as it travels: cut to the components wanted, normalised again, written in the type wanted."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gannet_kernels import to_bits, to_int8

DenseType = Literal["float32", "int8", "binary"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseVector:
    """A vector in bytes.

    Attributes:
        data: the components, written as `type` says.
        dim: how many there are.
        type: float32 little-endian; int8, to be multiplied by `scale`; or one bit each, 1 for > 0, highest bit first.
        scale: of int8, >= 0; 0.0 in other types.
    """

    data: bytes
    dim: int
    type: DenseType
    scale: float


def shortened(vector: NDArray[np.float32], dims: int, *, normalise: bool) -> NDArray[np.float32]:
    """The first `dims` components, scaled to length 1 if asked; a vector of zeros stays one.

    Kusupati et al. 2022, Matryoshka Representation Learning, section 3: a model trained for it puts what matters most first.
    """
    if dims == vector.shape[0]:
        return vector
    cut = vector[:dims]
    length = float(np.linalg.norm(cut.astype(np.float64))) if normalise else 1.0
    return cut if length == 0.0 else (cut / length).astype(np.float32)


def packed(vector: NDArray[np.float32], kind: DenseType) -> DenseVector:
    """Writes a finite vector, f32[D], contiguous. Reference: `tests/reference/dense.py`."""
    scale = 0.0
    match kind:
        case "float32":
            data = vector.astype("<f4", copy=False).tobytes()
        case "int8":
            levels, step = to_int8(vector)
            data, scale = levels.tobytes(), float(step)
        case "binary":
            data = to_bits(vector).tobytes()
    return DenseVector(data=data, dim=vector.shape[0], type=kind, scale=scale)
