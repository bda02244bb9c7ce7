"""Cut, normalised and quantised vectors against naive references."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from reference import dense as reference

from gannet_embedder.dense import packed, shortened

components = st.floats(-1e6, 1e6, width=32)
vectors = arrays.arrays(np.float32, st.integers(1, 40), elements=components)


@given(vector=vectors, share=st.floats(0, 1), normalise=st.booleans())
def test_shortened_vector_of_any_dims_equals_the_reference(vector, share, normalise):
    """The first components, of length one again if asked; zeros stay zeros."""
    dims = 1 + int(share * (vector.size - 1))
    expected = reference.shortened(vector.tolist(), dims, normalise=normalise and dims < vector.size)

    np.testing.assert_allclose(shortened(vector, dims, normalise=normalise), expected, rtol=1e-5, atol=1e-30)


@given(vector=vectors)
def test_packed_as_float32_gives_the_same_components(vector):
    """Nothing is lost, and there is no scale."""
    dense = packed(vector, "float32")

    assert (np.frombuffer(dense.data, "<f4").tolist(), dense.dim, dense.scale) == (vector.tolist(), vector.size, 0.0)


@given(vector=vectors)
def test_packed_as_int8_is_half_a_step_off_at_most(vector):
    """Each component comes back within half a step, and the greatest one takes the last level."""
    dense = packed(vector, "int8")
    back = reference.int8(dense.data, dense.scale)

    assert dense.dim == len(dense.data) == vector.size
    # A component that is barely a number at all has no exact step.
    np.testing.assert_allclose(back, vector, rtol=0, atol=0.5001 * dense.scale + 1e-43)
    if np.abs(vector).max() > 1e-30:
        assert max(map(abs, np.frombuffer(dense.data, np.int8).tolist())) == 127


def test_packed_as_int8_of_zeros_has_no_scale():
    """A vector of zeros divides by nothing."""
    dense = packed(np.zeros(5, np.float32), "int8")

    assert (dense.data, dense.scale) == (bytes(5), 0.0)


@given(vector=vectors)
def test_packed_as_binary_equals_the_reference(vector):
    """One bit a component, the first one highest."""
    dense = packed(vector, "binary")

    assert (dense.data, dense.dim) == (reference.binary(vector.tolist()), vector.size)


@pytest.mark.parametrize("dims,length", [(1, 1), (8, 1), (9, 2), (384, 48)])
def test_packed_as_binary_fills_whole_bytes(dims, length):
    """The last byte is filled up."""
    assert len(packed(np.ones(dims, np.float32), "binary").data) == length
