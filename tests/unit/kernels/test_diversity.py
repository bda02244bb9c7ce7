"""Maximal marginal relevance against its naive reference."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from reference import diversity as reference

from gannet_kernels import mmr

# Eighths have exact sums of products, so that ties are ties in any order of summation.
EIGHTHS = st.integers(-8, 8).map(lambda eighths: eighths / 8)


@given(data=st.data(), k=st.integers(0, 12), balance=st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_mmr_of_any_rows_equals_the_reference(data, k, balance):
    """Every pick is the one that the formula chooses, ties by place."""
    count, dim = data.draw(st.integers(0, 9)), data.draw(st.integers(0, 6))
    relevance = data.draw(npst.arrays(np.float32, count, elements=EIGHTHS | st.just(np.nan)))
    rows = data.draw(npst.arrays(np.float32, (count, dim), elements=EIGHTHS))

    assert mmr(relevance, rows, k, balance).tolist() == reference.mmr(relevance.tolist(), rows, k, balance)


def test_mmr_repeated_row_gives_way_to_another():
    """The twin of what is picked comes after a less relevant row that is unlike it."""
    rows = np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32)
    relevance = np.array([0.9, 0.8, 0.3], dtype=np.float32)

    assert mmr(relevance, rows, 3, 0.5).tolist() == [0, 2, 1]
    assert mmr(relevance, rows, 3, 1.0).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "relevances,k,balance,message", [(2, 1, 0.5, "differ in number"), (3, -1, 0.5, "k is"), (3, 1, 1.1, "balance is")]
)
def test_mmr_of_bad_arguments_is_refused(relevances, k, balance, message):
    """Each argument's error names it."""
    with pytest.raises(ValueError, match=message):
        mmr(np.ones(relevances, dtype=np.float32), np.ones((3, 2), dtype=np.float32), k, balance)
