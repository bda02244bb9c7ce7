"""Leaves out of filters what every point of a collection meets.

Edge checks each condition for each point: 3.6 ms of a dense search over 100,000 points, and as much again for the IDF of a corpus. In a
store of one tenant, or one collection, most of that finds out what was known before.
"""

from collections.abc import Callable
from typing import Final

from qdrant_client import grpc

# Counting costs what checking does, so that it pays only for conditions that come again and again while nothing is written.
LOOKS_MIN: Final = 8
CONDITIONS_KEPT_MAX: Final = 64


class RedundantConditions:
    """What is known of one collection's points until the next write."""

    def __init__(self) -> None:
        # How often a condition was looked at, or whether every point meets it; those looked at last come last.
        self._known: dict[bytes, int | bool] = {}

    def forget(self) -> None:
        """A point was written or deleted."""
        self._known.clear()

    def without(self, message: grpc.Filter, met_by_all: Callable[[grpc.Condition], bool]) -> grpc.Filter | None:
        """`message`, or what is left of it; None where every point passes.

        Args:
            message: only its `must` is looked at.
            met_by_all: counts; asked once a condition, at its LOOKS_MIN-th appearance since the last write.
        """
        needed = [condition for condition in message.must if not self._is_redundant(condition, met_by_all)]
        if len(needed) == len(message.must):
            return message
        shorter = grpc.Filter()
        shorter.CopyFrom(message)
        del shorter.must[:]
        shorter.must.extend(needed)
        return shorter if shorter.ByteSize() else None

    def _is_redundant(self, condition: grpc.Condition, met_by_all: Callable[[grpc.Condition], bool]) -> bool:
        key = condition.SerializeToString(deterministic=True)
        known = self._known.pop(key, 0)
        if known is not True and known is not False:
            known += 1
            if known >= LOOKS_MIN:
                known = met_by_all(condition)
        self._known[key] = known
        if len(self._known) > CONDITIONS_KEPT_MAX:
            del self._known[next(iter(self._known))]
        return known is True
