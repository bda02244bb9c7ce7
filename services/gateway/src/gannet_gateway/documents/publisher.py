"""Turns staged changes into the collection's next generation: many documents share one publish.

Order: the intent in the ledger, the stamps in the vector store, the flip in the ledger. Before the intent nothing has happened; after
it nobody goes back, and whoever finds the intent abandoned stamps and flips. Readers see one generation or the next, never a mixture.
"""

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field

import structlog

from gannet_gateway.ledger.claiming import Claimed
from gannet_gateway.ledger.journal import Journal
from gannet_gateway.ledger.records import Change, Collection, Publish
from gannet_gateway.names import CollectionName
from gannet_gateway.vectors.index import Index
from gannet_gateway.vectors.points import qdrant_collection
from gannet_service.errors import Conflict, DependencyUnavailable, GannetError, InternalError, NotReady

POLL_S = 0.02

_log: structlog.stdlib.BoundLogger = structlog.get_logger("publisher")


@dataclass(slots=True, kw_only=True)
class _Waiting:
    """A change and the one who waits for the generation that shows it."""

    change: Change
    shown: asyncio.Future[int]


@dataclass(slots=True, kw_only=True)
class _Line:
    """The changes of one collection, and the task that publishes them for as long as there are any."""

    collection: Collection
    waiting: deque[_Waiting] = field(default_factory=deque[_Waiting])
    task: "asyncio.Task[None] | None" = None
    published_at: float = float("-inf")


class Publisher:
    """Publishes, one generation of a collection at a time.

    Args:
        journal: where intents are.
        index: where passages are stamped.
        interval_s: least time between the begins of two publishes of one collection.
        documents_max: most documents of one publish.
    """

    def __init__(self, journal: Journal, index: Index, *, interval_s: float, documents_max: int) -> None:
        self._journal = journal
        self._index = index
        self._interval_s = interval_s
        self._documents_max = documents_max
        self._lines: dict[CollectionName, _Line] = {}
        # The holders of publishes in work here, for whoever renews leases.
        self.holders: set[str] = set()

    async def publish(self, collection: Collection, change: Change) -> int:
        """Make `change` part of a generation and return when readers see it.

        Raises:
            Conflict: another gateway has taken the claim over.
            DependencyUnavailable: reason PUBLISH_PENDING: it is part of an intent, and shown when the stores answer again. Any other
                reason: it is part of none.
        """
        line = self._lines.setdefault(collection.name, _Line(collection=collection))
        waiting = _Waiting(change=change, shown=asyncio.get_running_loop().create_future())
        line.waiting.append(waiting)
        if line.task is None:
            line.task = asyncio.create_task(self._drain(line))
        return await waiting.shown

    async def close(self) -> None:
        """Stop at once, in the middle of a publish if need be."""
        tasks = [line.task for line in self._lines.values() if line.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def roll_forward(self, collection: Collection) -> bool:
        """Finish the publish of a collection that its publisher abandoned; whether there was one."""
        publish = await self._journal.take_over_publish(collection.name)
        if publish is None:
            return False
        await self._finish(collection, publish)
        _log.info("publish rolled forward", collection=str(collection.name), generation=publish.generation)
        return True

    async def _drain(self, line: _Line) -> None:
        batch: list[_Waiting] = []
        problem: GannetError = NotReady("this gateway is going away")
        try:
            while True:
                # Also before the end: the next change to come must find out when the last publish was.
                await asyncio.sleep(max(0.0, line.published_at + self._interval_s - time.monotonic()))
                while line.waiting and len(batch) < self._documents_max:
                    waiting = line.waiting.popleft()
                    if not waiting.shown.done():  # its caller has left, and takes the claim back
                        batch.append(waiting)
                if not batch:
                    return
                line.published_at = time.monotonic()
                await self._show(line.collection, batch)
                batch.clear()
        except Exception:  # noqa: BLE001 - the root of a task: whoever waits must hear of a bug
            _log.exception("publisher failed", collection=str(line.collection.name))
            problem = InternalError("internal error; the gateway's log has it")
        finally:
            del self._lines[line.collection.name]
            _tell([*batch, *line.waiting], problem)

    async def _show(self, collection: Collection, batch: list[_Waiting]) -> None:
        """Publish a batch and tell everyone in it."""
        try:
            publish = await self._begin(collection, [waiting.change for waiting in batch])
        except GannetError as error:
            _tell(batch, error)
            return
        mine = [waiting for waiting in batch if waiting.change.claim.holder in publish.accepted]
        _tell(
            [waiting for waiting in batch if waiting not in mine],
            Conflict("another gateway has taken this document over", reason="CLAIM_LOST"),
        )
        try:
            await self._finish(collection, publish)
        except GannetError as error:
            _log.warning("publish left for recovery", collection=str(collection.name), reason=error.reason)
            pending = f"stored, and shown to readers when the stores answer again: {error.message}"
            _tell(mine, DependencyUnavailable(pending, reason="PUBLISH_PENDING"))
            return
        for waiting in mine:
            if not waiting.shown.done():
                waiting.shown.set_result(publish.generation)

    async def _begin(self, collection: Collection, changes: list[Change]) -> Publish:
        """Record the intent; another gateway's publish is waited for, or finished if it was abandoned."""
        while True:
            try:
                return await self._journal.begin_publish(collection.name, changes)
            except Claimed:
                if not await self.roll_forward(collection):
                    await asyncio.sleep(POLL_S)

    async def _finish(self, collection: Collection, publish: Publish) -> None:
        self.holders.add(publish.holder)
        try:
            name = qdrant_collection(collection.embedding_model, collection.embedding_model_digest)
            await self._index.stamp(name, publish)
            await self._journal.finish_publish(publish)
        except GannetError:
            await self._journal.abandon([publish.holder])
            raise
        finally:
            self.holders.discard(publish.holder)


def _tell(batch: list[_Waiting], error: GannetError) -> None:
    for waiting in batch:
        if not waiting.shown.done():
            waiting.shown.set_exception(error)
