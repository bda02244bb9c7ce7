"""A circuit breaker: after some failures in a row nothing is asked for a while, then one caller tries."""

import time
from collections.abc import Callable


class Breaker:
    """Closed until `failures_max` failures in a row; then open for `open_s` seconds; then half open, for one trial at a time."""

    def __init__(self, *, failures_max: int, open_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._failures_max = failures_max
        self._open_s = open_s
        self._clock = clock
        self._failures = 0
        self._closed_again_at = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the last trial failed, or there was none yet since it opened."""
        return self._failures >= self._failures_max

    def allows(self) -> bool:
        """Whether to ask. Whoever is told yes reports the outcome; a trial that is never reported is repeated after `open_s`."""
        if not self.is_open:
            return True
        if self._clock() < self._closed_again_at:
            return False
        self._closed_again_at = self._clock() + self._open_s
        return True

    def succeeded(self) -> None:
        """It answered."""
        self._failures = 0

    def failed(self) -> None:
        """It did not."""
        self._failures += 1
        if self.is_open:
            self._closed_again_at = self._clock() + self._open_s
