"""Pooling of padded batches against its naive reference."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from reference import pooling as reference

from gannet_kernels import cls_pool, max_pool, mean_pool

POOL = {"mean": mean_pool, "max": max_pool, "cls": cls_pool}
FINITE = st.floats(-1e3, 1e3, width=32)
every_kind = pytest.mark.parametrize("kind", POOL)


@every_kind
@given(
    hidden=npst.arrays(
        np.float32, st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(1, 17)), elements=FINITE
    ),
    normalise=st.booleans(),
    data=st.data(),
)
def test_pool_of_any_padded_batch_equals_the_reference(kind, hidden, normalise, data):
    """Each text's vector is that of its own rows, whatever its padding holds."""
    texts, rows, _ = hidden.shape
    lengths = data.draw(npst.arrays(np.int64, texts, elements=st.integers(0, rows)))
    for text, length in enumerate(lengths):
        hidden[text, length:] = np.nan

    pooled = POOL[kind](hidden, lengths, normalise)

    for text, length in enumerate(lengths):
        kept = hidden[text, :length]
        size = max(1.0, np.abs(kept).max(initial=0.0))
        expected = reference.pool(kind, kept, normalise=False)
        # Where rows nearly cancel out, the direction of what is left is rounding noise.
        if normalise and np.linalg.norm(expected) > 1e-2 * size:
            np.testing.assert_allclose(pooled[text], reference.pool(kind, kept, normalise=True), atol=1e-4)
        elif not normalise:
            np.testing.assert_allclose(pooled[text], expected, atol=1e-5 * size)


@every_kind
def test_pool_of_no_rows_gives_zeros(kind):
    """A text without rows gives zeros, also when normalising, and never NaN."""
    pooled = POOL[kind](np.ones((2, 3, 4), dtype=np.float32), np.array([0, 1]), True)

    np.testing.assert_array_equal(pooled, [[0, 0, 0, 0], [0.5, 0.5, 0.5, 0.5]])


@every_kind
def test_pool_of_norm_zero_stays_zero(kind):
    """A vector of norm 0 is not divided by 0."""
    hidden = np.array([[[0, 0], [0, 0]]], dtype=np.float32)

    np.testing.assert_array_equal(POOL[kind](hidden, np.array([2]), True), np.zeros((1, 2)))


@pytest.mark.parametrize("kind,row", [("mean", 0), ("mean", 4), ("max", 0), ("max", 2), ("max", 4), ("cls", 0)])
def test_pool_nan_in_a_row_that_is_read_reaches_the_result(kind, row):
    """NaN is not optimised away, so that the caller can refuse it."""
    hidden = np.ones((1, 5, 3), dtype=np.float32)
    hidden[0, row, 1] = np.nan

    assert np.isnan(POOL[kind](hidden, np.array([5]), False)).tolist() == [[False, True, False]]


@every_kind
@pytest.mark.parametrize("lengths,message", [([1, 1], "differ in number"), ([4], "within"), ([-1], "within")])
def test_pool_of_lengths_that_do_not_fit_is_refused(kind, lengths, message):
    """Nothing is read beyond the end of an array."""
    with pytest.raises(ValueError, match=message):
        POOL[kind](np.ones((1, 3, 2), dtype=np.float32), np.array(lengths), True)
