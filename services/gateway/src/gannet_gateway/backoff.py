"""How long to wait before the next attempt."""

import random


def jittered_pause_s(attempt: int, *, initial_s: float, max_s: float) -> float:
    """The pause after `attempt`, from 1: doubled by each further one up to `max_s`, shortened by up to half at random."""
    backoff_s = min(max_s, initial_s * 2.0 ** min(attempt - 1, 30))
    return backoff_s * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing
