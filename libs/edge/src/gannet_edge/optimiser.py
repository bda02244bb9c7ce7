"""Decides when Edge may optimise. It answers nothing meanwhile, so the pauses are kept short, idle and visible."""

import asyncio
import time

import structlog
from prometheus_client import Histogram

from gannet_edge.store import Collection, Store
from gannet_service.errors import GannetError

LOOK_PERIOD_S = 0.2

optimise_pause_s = Histogram(
    "gannet_edge_optimise_pause_seconds",
    "Time in which nothing was answered because a collection was optimised.",
    buckets=(0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0),
)

_log: structlog.stdlib.BoundLogger = structlog.get_logger("optimiser")


class Optimiser:
    """Optimises a changed collection when nobody asks anything, and at the latest when a segment is full.

    The pause is about 25 µs for each point of the segments that are rewritten: one full segment while points are only added. Deletions
    spread evenly over all segments make all of them due at once, and that pause grows with the collection (2.6 s for 75,000 points).
    """

    def __init__(self, store: Store, *, idle_s: float, segment_points: int) -> None:
        self._store = store
        self._idle_s = idle_s
        self._segment_points = segment_points

    def due(self, now: float) -> list[Collection]:
        """The collections to optimise at the monotonic instant `now`."""
        idle = now - self._store.used_at >= self._idle_s
        least = 1 if idle else self._segment_points
        return [collection for collection in self._store.collections if collection.changed_points >= least]

    def optimise(self, collection: Collection) -> None:
        """Optimise `collection` and tell how long nothing was answered."""
        try:
            pause_s = collection.optimise()
        except GannetError as error:
            # Its data is as it was; trying again at once would only pause again.
            collection.changed_points = 0
            _log.error("optimise failed", collection=collection.name, error=str(error))
            return
        if pause_s is not None:
            optimise_pause_s.observe(pause_s)
            info = collection.info()
            _log.info(
                "optimised",
                collection=collection.name,
                pause_s=round(pause_s, 3),
                segments=info.segments_count,
                points=info.points_count,
            )

    async def start_up(self) -> None:
        """Optimise everything that needs it, before the server says SERVING."""
        for collection in self._store.collections:
            self.optimise(collection)

    async def run(self) -> None:
        """Look for work until cancelled."""
        while True:
            await asyncio.sleep(LOOK_PERIOD_S)
            for collection in self.due(time.monotonic())[:1]:
                self.optimise(collection)
