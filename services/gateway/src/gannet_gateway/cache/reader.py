"""Reads of a collection's generation, shared by the requests that were there before the read began."""

import asyncio
from collections.abc import Awaitable, Callable

from gannet_gateway.ledger.records import Collection
from gannet_gateway.names import CollectionName


class CollectionReader:
    """At most one read of a collection runs at a time, and one waits to begin.

    A request takes the result of a read that begins after it arrived, never of one that runs already: what a caller saw published
    before its request cannot be missing from the reply.
    """

    def __init__(self, read: Callable[[CollectionName], Awaitable[Collection]]) -> None:
        self._read = read
        self._running: dict[CollectionName, asyncio.Task[Collection]] = {}
        self._next: dict[CollectionName, asyncio.Task[Collection]] = {}

    async def collection_settings(self, name: CollectionName) -> Collection:
        """The collection; raises what the read raises. Who stops waiting leaves the read to the others."""
        task = self._next.get(name)
        if task is None:
            task = self._next[name] = asyncio.ensure_future(self._after(self._running.get(name), name))
            task.add_done_callback(_looked_at)
        return await asyncio.shield(task)

    async def _after(self, running: asyncio.Task[Collection] | None, name: CollectionName) -> Collection:
        if running is not None:
            await asyncio.wait([running])
        self._running[name] = self._next.pop(name)
        try:
            return await self._read(name)
        finally:
            del self._running[name]


def _looked_at(task: asyncio.Task[Collection]) -> None:
    if not task.cancelled():
        task.exception()  # or asyncio complains of errors that nobody stayed to see
