"""Refused calls, counted: a full server refuses more calls than it serves, and a line or a span for each would cost it the rest."""

import asyncio
import functools
from collections import Counter

import structlog

from gannet_service import metrics
from gannet_service.errors import GannetError, to_trailing_metadata

PERIOD_S = 1.0

_log: structlog.stdlib.BoundLogger = structlog.get_logger("rpc")


class Refusals:
    """Says once a second, in the log and in the metrics, which methods refused how many calls, and for what."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    def count(self, method: str, error: GannetError) -> None:
        """One more call of `method` was refused with `error`."""
        self._counts[method, error.code.name, error.reason] += 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PERIOD_S, self.write)

    def write(self) -> None:
        """Say what was counted since the last time; nothing where nothing was."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        for (method, code, reason), calls in self._counts.items():
            metrics.requests_refused.labels(method, reason).inc(calls)
            _log.warning("refused", method=method, code=code, reason=reason, calls=calls)
        self._counts.clear()


def refusal_metadata(error: GannetError) -> tuple[tuple[str, bytes], ...]:
    """`to_trailing_metadata(error)`, remembered: refusals of one moment differ in nothing but the time after which to come back."""
    return _packed(type(error), error.message, error.reason, error.field, error.retry_after_s)


@functools.lru_cache(maxsize=256)
def _packed(
    kind: type[GannetError], message: str, reason: str, field: str | None, retry_after_s: float | None
) -> tuple[tuple[str, bytes], ...]:
    return to_trailing_metadata(kind(message, reason=reason, field=field, retry_after_s=retry_after_s))
