"""The sampler against its naive reference."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from reference import sampling as reference

from gannet_kernels import sampling

# Few distinct values: ties are what samplers get wrong.
LOGIT = st.integers(-40, 40).map(lambda quarters: quarters / 4) | st.just(-math.inf)
LOGITS = st.lists(LOGIT, min_size=1, max_size=40).filter(lambda values: max(values) > -math.inf)
SEED = st.integers(0, 2**64 - 1)
POSITION = st.integers(0, 100_000)


def sample(logits, *, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=0, position=0) -> int:
    """One row."""
    row = np.array([logits], dtype=np.float32)
    parameters = zip(
        (temperature, top_k, top_p, min_p, seed, position), ("f8", "i8", "f8", "f8", "u8", "i8"), strict=True
    )
    return int(sampling.sample(row, row.argmax(axis=1), *(np.array([value], kind) for value, kind in parameters))[0])


@given(
    logits=LOGITS,
    temperature=st.sampled_from([0.1, 0.7, 1.0, 2.5]),
    top_k=st.integers(0, 8),
    top_p=st.sampled_from([0.0, 0.15, 0.55, 0.9, 1.0]),
    min_p=st.sampled_from([0.0, 0.013, 0.3, 1.0]),
    seed=SEED,
    position=POSITION,
)
def test_sample_any_parameters_equals_reference(  # noqa: PLR0917 - hypothesis passes one argument a strategy
    logits, temperature, top_k, top_p, min_p, seed, position
):
    """The same tokens are kept, and the same one is drawn, unless the draw falls on the edge between two."""
    share = reference.uniform(seed, position)
    nearby = {
        reference.draw(
            reference.kept(logits, temperature, top_k, top_p * (1 + cut), min(1.0, min_p * (1 + cut))), share + step
        )
        for cut in (-1e-6, 0, 1e-6)
        for step in (-1e-6, 0, 1e-6)
    }
    assume(len(nearby) == 1)

    token = sample(logits, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, seed=seed, position=position)

    assert {token} == nearby


@given(logits=LOGITS, seed=SEED)
def test_sample_temperature_zero_is_the_best_of_equals_the_first(logits, seed):
    """Greedy ignores the seed."""
    assert sample(logits, temperature=0.0, seed=seed) == logits.index(max(logits))


@given(rows=st.lists(st.tuples(st.lists(LOGIT, min_size=5, max_size=5), SEED, POSITION), min_size=1, max_size=6))
def test_sample_row_beside_others_is_as_alone(rows):
    """Neighbours have no say in a draw."""
    assume(all(max(logits) > -math.inf for logits, _, _ in rows))
    logits = np.array([row[0] for row in rows], dtype=np.float32)
    ones = np.ones(len(rows))

    together = sampling.sample(
        logits,
        logits.argmax(axis=1),
        ones,
        np.zeros(len(rows), dtype=np.int64),
        ones * 0.9,
        ones * 0.0,
        np.array([row[1] for row in rows], dtype=np.uint64),
        np.array([row[2] for row in rows], dtype=np.int64),
    )

    assert together.tolist() == [sample(row, top_p=0.9, seed=seed, position=at) for row, seed, at in rows]


@pytest.mark.parametrize("logits", [[1.0, math.nan], [math.inf, 0.0], [-math.inf, -math.inf]])
def test_sample_of_what_is_no_distribution_is_minus_one(logits):
    """A model that gives NaN is noticed, not sampled from."""
    assert sample(logits) == -1
    assert sample(logits, temperature=0.0) == -1


def test_sample_many_draws_have_the_distribution():
    """A thousand positions of one seed fall where the softmax says."""
    logits = [0.0, 1.0, 2.0, -1.0]
    draws = [sample(logits, seed=7, position=position) for position in range(1000)]

    shares = np.bincount(draws, minlength=4) / 1000

    assert np.abs(shares - np.exp(reference.log_probabilities(logits))).max() < 0.05


@given(seed=SEED, position=POSITION)
def test_uniform_any_seed_equals_reference(seed, position):
    """Bit by bit, and within [0, 1)."""
    value = sampling.uniform(np.uint64(seed), position)

    assert value == reference.uniform(seed, position)
    assert 0.0 <= value < 1.0


@given(
    logits=st.lists(LOGIT, min_size=8, max_size=8),
    prompt=st.sets(st.integers(0, 7)),
    said=st.lists(st.integers(0, 7), max_size=12),
    repetition=st.sampled_from([0.5, 1.0, 1.3, 2.0]),
    presence=st.sampled_from([-2.0, 0.0, 1.5]),
    frequency=st.sampled_from([-1.0, 0.0, 0.25]),
)
def test_penalise_any_history_equals_reference(  # noqa: PLR0917 - hypothesis passes one argument a strategy
    logits, prompt, said, repetition, presence, frequency
):
    """Prompt and answer for repetition, the answer alone for presence and frequency."""
    lowered = np.array(logits, dtype=np.float32)
    in_prompt = np.array([token in prompt for token in range(8)], dtype=np.uint8)
    counts = np.array([said.count(token) for token in range(8)], dtype=np.uint32)

    sampling.penalise(lowered, in_prompt, counts, repetition, presence, frequency)

    expected = reference.penalise(logits, prompt, said, repetition, presence, frequency)
    np.testing.assert_allclose(lowered, np.array(expected, dtype=np.float32), rtol=1e-6)


@given(logits=LOGITS)
def test_log_sum_exp_equals_reference(logits):
    """A logit less this is its log probability."""
    row = np.array(logits, dtype=np.float32)
    best = int(row.argmax())

    found = row[best] - sampling.log_sum_exp(row, float(row[best]))

    assert found == pytest.approx(reference.log_probabilities(logits)[best], abs=1e-6)
