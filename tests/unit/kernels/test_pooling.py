"""Mean pooling against its naive reference."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from reference import pooling

from gannet_kernels import mean_pool

FINITE = st.floats(-1e3, 1e3, width=32)


@given(
    hidden=npst.arrays(np.float32, st.tuples(st.integers(0, 9), st.integers(1, 17)), elements=FINITE),
    normalise=st.booleans(),
    data=st.data(),
)
def test_mean_pool_any_mask_equals_reference(hidden, normalise, data):
    """The kernel averages the kept rows, and normalises on request, like the reference does."""
    mask = data.draw(npst.arrays(np.int64, len(hidden), elements=st.integers(0, 1)))

    pooled = mean_pool(hidden, mask, normalise)

    expected = pooling.mean_pool(hidden, mask, normalise=False)
    # Where rows nearly cancel out, the direction of what is left is rounding noise.
    if normalise and np.linalg.norm(expected) > 1e-2 * max(1.0, np.abs(hidden).max(initial=0.0)):
        np.testing.assert_allclose(pooled, pooling.mean_pool(hidden, mask, normalise=True), atol=1e-4)
    elif not normalise:
        np.testing.assert_allclose(pooled, expected, atol=1e-5 * max(1.0, np.abs(hidden).max(initial=0.0)))


@pytest.mark.parametrize("rows", [0, 3])
def test_mean_pool_nothing_kept_gives_zeros(rows):
    """No kept row gives zeros, also when normalising, and never NaN."""
    pooled = mean_pool(np.ones((rows, 4), dtype=np.float32), np.zeros(rows, dtype=np.int64), True)

    np.testing.assert_array_equal(pooled, np.zeros(4, dtype=np.float32))


def test_mean_pool_opposite_rows_stay_zero():
    """A mean of norm 0 is not divided by 0."""
    hidden = np.array([[1, -2], [-1, 2]], dtype=np.float32)

    np.testing.assert_array_equal(mean_pool(hidden, np.ones(2, dtype=np.int64), True), np.zeros(2, dtype=np.float32))


def test_mean_pool_nan_in_kept_row_reaches_the_result():
    """NaN is not optimised away, so that the caller can refuse it."""
    hidden = np.array([[1, 1], [np.nan, 1]], dtype=np.float32)

    assert np.isnan(mean_pool(hidden, np.ones(2, dtype=np.int64), True)).all()


def test_mean_pool_nan_in_masked_row_is_not_read():
    """Padding may hold anything."""
    hidden = np.array([[3, 4], [np.nan, np.inf]], dtype=np.float32)

    np.testing.assert_allclose(mean_pool(hidden, np.array([1, 0]), True), [0.6, 0.8], rtol=1e-6)
