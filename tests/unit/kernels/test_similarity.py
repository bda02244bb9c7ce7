"""Top-k of scores and of rows against their naive references."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from reference import similarity as reference

from gannet_kernels import exact_top_k, top_k

COMPONENT = st.floats(-100, 100, width=32)
# Few values, so that ties are common.
SCORES = st.lists(st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.5, np.nan, np.inf, -np.inf]), max_size=30)


@st.composite
def query_and_rows(draw, component=COMPONENT):
    count, dim = draw(st.integers(0, 11)), draw(st.integers(0, 40))
    rows = draw(npst.arrays(np.float32, (count, dim), elements=component))
    return draw(npst.arrays(np.float32, dim, elements=component)), rows


@given(scores=SCORES | st.lists(st.floats(width=32), max_size=30), k=st.integers(0, 40))
def test_top_k_with_ties_and_nan_equals_a_stable_sort(scores, k):
    """Greatest first, ties by place, NaN last, and never more than there are."""
    assert top_k(np.array(scores, dtype=np.float32), k).tolist() == reference.top_k(scores, k)


@given(pair=query_and_rows(component=st.integers(-3, 3).map(float)), k=st.integers(0, 14))
def test_exact_top_k_of_whole_numbers_equals_scoring_and_sorting(pair, k):
    """One pass finds what scoring all and sorting finds; whole numbers have exact sums, so ties are ties."""
    places, scores = exact_top_k(*pair, k)

    expected = reference.dot_scores(*pair)
    assert places.tolist() == reference.top_k(expected.tolist(), k)
    assert scores.tolist() == expected[places].tolist()


@given(pair=query_and_rows())
def test_exact_top_k_scores_of_any_shape_equal_the_reference(pair):
    """Every row's score is its dot product, for no rows and any number of components."""
    places, scores = exact_top_k(*pair, len(pair[1]))

    assert scores.dtype == np.float32
    assert sorted(places.tolist()) == list(range(len(pair[1])))
    np.testing.assert_allclose(scores, reference.dot_scores(*pair)[places], rtol=1e-5, atol=0.1)


def test_exact_top_k_nan_row_comes_last():
    """A vector that holds NaN is found behind all others."""
    rows = np.array([[np.nan], [-5], [3]], dtype=np.float32)

    assert exact_top_k(np.ones(1, dtype=np.float32), rows, 3)[0].tolist() == [2, 1, 0]


def test_exact_top_k_of_another_dimension_is_refused():
    """Nothing is read beyond the end of an array."""
    with pytest.raises(ValueError, match="differ in their number of components"):
        exact_top_k(np.ones(4, dtype=np.float32), np.ones((2, 3), dtype=np.float32), 1)


def test_top_k_of_negative_k_is_refused():
    """A negative k is a mistake, not none."""
    with pytest.raises(ValueError, match="k is negative"):
        top_k(np.ones(3, dtype=np.float32), -1)
    with pytest.raises(ValueError, match="k is negative"):
        exact_top_k(np.ones(3, dtype=np.float32), np.ones((2, 3), dtype=np.float32), -1)
