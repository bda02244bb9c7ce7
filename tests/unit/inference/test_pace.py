"""The measured pace of a model, and how it doubts itself."""

import pytest

from gannet_inference.pace import Pace


def test_pace_before_the_first_run_expects_nothing():
    """Without a measurement no work is hopeless."""
    assert Pace().expected_s(512) == 0.0


def test_pace_of_steady_runs_is_their_seconds_a_token():
    """Long and short runs count by their tokens."""
    pace = Pace()
    for tokens in (10, 200, 30):
        pace.measured(tokens, tokens * 0.001)

    assert pace.expected_s(100) == pytest.approx(0.1)


def test_pace_after_one_slow_run_returns_to_the_usual():
    """A moment at which the machine stood still is forgotten."""
    pace = Pace()
    pace.measured(100, 10.0)
    for _ in range(200):
        pace.measured(100, 0.1)

    assert pace.expected_s(100) == pytest.approx(0.1, rel=0.01)


def test_pace_that_refuses_again_and_again_lets_work_through_in_the_end():
    """An estimate that is far too high cannot turn work away for ever."""
    pace = Pace()
    pace.measured(100, 10.0)
    refusals = 0
    while pace.expected_s(100) > 0.1:
        pace.refused()
        refusals += 1

    assert refusals < 50
