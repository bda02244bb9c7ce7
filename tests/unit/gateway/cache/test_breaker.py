from hypothesis import given
from hypothesis import strategies as st

from gannet_gateway.cache.breaker import Breaker


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_breaker_opens_after_failures_in_a_row_and_tries_one_caller_at_a_time():
    """Closed, open, half open with one trial, open again, half open, closed."""
    clock = Clock()
    breaker = Breaker(failures_max=3, open_s=2.0, clock=clock)
    for _ in range(2):
        assert breaker.allows()
        breaker.failed()
    assert breaker.allows()
    breaker.failed()
    assert not breaker.allows()
    clock.now += 2.0
    assert [breaker.allows() for _ in range(3)] == [True, False, False]
    breaker.failed()
    clock.now += 1.9
    assert not breaker.allows()
    clock.now += 0.1
    assert breaker.allows()
    breaker.succeeded()
    assert [breaker.allows() for _ in range(3)] == [True, True, True]


def test_breaker_failures_apart_do_not_open_it():
    """Only failures in a row count."""
    breaker = Breaker(failures_max=2, open_s=1.0, clock=Clock())
    for _ in range(5):
        breaker.failed()
        breaker.succeeded()
    assert breaker.allows()


def test_breaker_trial_without_an_outcome_is_repeated():
    """A caller who left in the middle of the trial does not keep it open for ever."""
    clock = Clock()
    breaker = Breaker(failures_max=1, open_s=2.0, clock=clock)
    breaker.failed()
    clock.now += 2.0
    assert breaker.allows()
    clock.now += 2.0
    assert breaker.allows()


@given(st.lists(st.sampled_from(["fail", "succeed", "wait"]), max_size=60))
def test_breaker_never_asks_more_than_once_a_pause_while_open(steps: list[str]):
    """Whatever happens: while it is open, asks are a whole pause apart."""
    clock = Clock()
    breaker = Breaker(failures_max=2, open_s=2.0, clock=clock)
    asked_at = None
    for step in steps:
        if step == "wait":
            clock.now += 0.5
            continue
        was_open = breaker.is_open
        if not breaker.allows():
            continue
        if was_open and asked_at is not None:
            assert clock.now - asked_at >= 2.0
        asked_at = clock.now
        breaker.failed() if step == "fail" else breaker.succeeded()
