"""Reads of a collection's settings and generation, shared by the requests that were there before the read began."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from cachetools import LRUCache

from gannet_gateway.ledger.records import Collection
from gannet_gateway.names import CollectionName
from gannet_service.errors import GannetError

COLLECTIONS_KEPT_MAX = 10_000


class _Known(NamedTuple):
    """What a read gave, the ledger's version just before it began, and when that was."""

    collection: Collection
    version: int | None
    began_at: float


def _unversioned() -> int | None:
    return None


class CollectionReader:
    """At most one read of a collection runs at a time, and one waits to begin.

    A request takes the result of a read that begins after it arrived, never of one that runs already: what a caller saw published
    before its request cannot be missing from the reply. Two things spare the read: a ledger whose `version` is still what it was before
    an earlier read began, for there was no commit since; and a caller who accepts what is no older than `staleness_s_max`.
    """

    def __init__(
        self,
        read: Callable[[CollectionName], Awaitable[Collection]],
        version: Callable[[], int | None] = _unversioned,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._version = version
        self._clock = clock
        self._known: LRUCache[CollectionName, _Known] = LRUCache(COLLECTIONS_KEPT_MAX)
        self._running: dict[CollectionName, asyncio.Task[Collection]] = {}
        self._next: dict[CollectionName, asyncio.Task[Collection]] = {}

    async def collection_settings(self, name: CollectionName, staleness_s_max: float = 0.0) -> Collection:
        """The collection; raises what the read raises. Who stops waiting leaves the read to the others."""
        known = self._known.get(name)
        if known is not None:
            if staleness_s_max > 0 and self._clock() - known.began_at <= staleness_s_max:
                return known.collection
            if known.version is not None and known.version == self._version():
                return known.collection
        task = self._next.get(name)
        if task is None:
            task = self._next[name] = asyncio.ensure_future(self._after(self._running.get(name), name))
            task.add_done_callback(_looked_at)
        return await asyncio.shield(task)

    async def _after(self, running: asyncio.Task[Collection] | None, name: CollectionName) -> Collection:
        if running is not None:
            await asyncio.wait([running])
        self._running[name] = self._next.pop(name)
        version, began_at = self._version(), self._clock()
        try:
            collection = await self._read(name)
        except GannetError:
            self._known.pop(name, None)
            raise
        finally:
            del self._running[name]
        self._known[name] = _Known(collection, version, began_at)
        return collection


def _looked_at(task: asyncio.Task[Collection]) -> None:
    if not task.cancelled():
        task.exception()  # or asyncio complains of errors that nobody stayed to see
