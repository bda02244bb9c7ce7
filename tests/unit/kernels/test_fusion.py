"""Score fusion against its naive reference."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import fusion

from gannet_kernels import fuse_relative_scores, fuse_z_scores, order_descending, relative_scores, z_scores

# Scores a thousandth apart: differences below the rounding of the mean are noise in any implementation.
SCORE = st.integers(-100_000, 100_000).map(lambda thousandths: thousandths / 1000)


@given(pairs=st.lists(st.tuples(SCORE, SCORE), max_size=30), weight=st.floats(0, 10))
def test_fuse_z_scores_finite_scores_equals_reference(pairs, weight):
    """z(first) + weight·z(logits), also for no and for constant scores."""
    first, logits = [pair[0] for pair in pairs], [pair[1] for pair in pairs]

    fused = fuse_z_scores(np.array(first), np.array(logits), weight)

    np.testing.assert_allclose(fused, fusion.fuse_z_scores(first, logits, weight), atol=1e-9)


@given(scores=st.lists(st.floats(allow_nan=True) | st.sampled_from([0.0, -0.0, 1.0]), max_size=40))
def test_order_descending_ties_and_nan_equals_reference(scores):
    """Greatest first, ties in their old order, NaN last."""
    assert order_descending(np.array(scores, dtype=np.float64)).tolist() == fusion.order_descending(scores)


@pytest.mark.parametrize("value", [0.1, -7.3, 1e300])
def test_z_scores_constant_input_gives_zeros(value):
    """A stage that gives every candidate the same score has no say, whatever its mean rounds to."""
    assert z_scores(np.full(7, value)).tolist() == [0.0] * 7


def test_z_scores_nan_reaches_the_result():
    """One NaN makes all z-scores NaN."""
    assert np.isnan(z_scores(np.array([1.0, np.nan, 2.0]))).all()


def test_fuse_z_scores_weight_zero_keeps_the_first_order():
    """Weight 0 leaves the first stage's order alone."""
    first = np.array([0.2, 0.9, 0.5])

    assert order_descending(fuse_z_scores(first, np.array([9.0, -9.0, 1.0]), 0.0)).tolist() == [1, 2, 0]


@given(pairs=st.lists(st.tuples(SCORE | st.just(np.nan), SCORE | st.just(np.nan)), max_size=30), weight=st.floats(0, 1))
def test_fuse_relative_scores_with_missing_ones_equals_reference(pairs, weight):
    """Each list counts from its least to its greatest score; a candidate that a list misses gets nothing from it."""
    first, second = [pair[0] for pair in pairs], [pair[1] for pair in pairs]

    fused = fuse_relative_scores(np.array(first), np.array(second), weight)

    np.testing.assert_allclose(fused, fusion.fuse_relative_scores(first, second, weight), atol=1e-12)


def test_relative_scores_of_the_greatest_range_do_not_overflow():
    """The difference of two finite scores may not be finite."""
    assert relative_scores(np.array([-1.7e308, 0.0, 1.7e308])).tolist() == [0.0, 0.5, 1.0]


def test_relative_scores_equal_ones_count_in_full():
    """The only hit of a list is its best, and better than a candidate that the list does not have."""
    assert relative_scores(np.array([np.nan, 4.0, 4.0])).tolist() == [0.0, 1.0, 1.0]


@pytest.mark.parametrize("fuse", [fuse_z_scores, fuse_relative_scores])
def test_fuse_of_lists_that_differ_in_length_is_refused(fuse):
    """Nothing is read beyond the end of an array."""
    with pytest.raises(ValueError, match="differ in"):
        fuse(np.ones(2), np.ones(3), 0.5)
