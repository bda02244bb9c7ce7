"""Waiting for operations to be done, whichever gateway does them: many waiters, one read."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Sequence

import structlog

from gannet_gateway.ledger.operations import Operation, Operations
from gannet_service.errors import GannetError, NotFound, NotReady

ASKED_MAX = 500
# Least time between two reads: acceptances and ends come one by one, a read costs the same for one as for a hundred.
LOOK_PERIOD_S = 0.02

_log: structlog.stdlib.BoundLogger = structlog.get_logger("outcomes")


class Outcomes:
    """Reads the operations that are waited for: those at once that something ended of here, all of them every `poll_s`."""

    def __init__(self, operations: Operations, *, poll_s: float) -> None:
        self._operations = operations
        self._poll_s = poll_s
        self._waiting: dict[str, list[asyncio.Future[Operation]]] = defaultdict(list)
        # What may have ended since it was read.
        self._due: set[str] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._kept: set[str] | None = None

    async def wait(self, operation: str) -> Operation:
        """The operation, once it is done.

        Raises:
            NotReady: this gateway is going away; the operation goes on elsewhere.
            NotFound: it was deleted.
        """
        if self._kept is not None and operation not in self._kept:
            raise NotReady("this gateway is going away", reason="DRAINING")
        future: asyncio.Future[Operation] = asyncio.get_running_loop().create_future()
        self._waiting[operation].append(future)
        self.ended(operation)
        if self._task is None:
            self._task = asyncio.create_task(self._watch())
        try:
            return await future
        finally:
            if not future.done() or future.cancelled():
                self._forget(operation, future)

    def ended(self, operation: str) -> None:
        """A job of `operation` may have ended here: look."""
        if operation in self._waiting:
            self._due.add(operation)
            self._wake.set()

    def drain(self, kept: set[str]) -> None:
        """Send everyone away who waits for another operation than `kept`, those that this gateway still finishes."""
        self._kept = kept
        for operation in set(self._waiting) - kept:
            self._tell(operation, NotReady("this gateway is going away", reason="DRAINING"))

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        all_at_s = loop.time() + self._poll_s
        try:
            while self._waiting:
                self._wake.clear()
                if loop.time() >= all_at_s:
                    all_at_s = loop.time() + self._poll_s
                    self._due.update(self._waiting)
                due, self._due = self._due & self._waiting.keys(), set()
                try:
                    await self._look(list(due))
                except GannetError as error:
                    _log.warning("outcomes not read", reason=error.reason)
                if self._waiting:
                    await asyncio.sleep(LOOK_PERIOD_S)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout_at(all_at_s):
                            await self._wake.wait()
        finally:
            self._task = None

    async def _look(self, asked: Sequence[str]) -> None:
        for at in range(0, len(asked), ASKED_MAX):
            part = asked[at : at + ASKED_MAX]
            found = {each.id: each for each in await self._operations.find(part)}
            for operation in part:
                state = found.get(operation)
                if state is None:
                    self._tell(operation, NotFound(f"operation {operation} was deleted", field="name"))
                elif state.done:
                    self._tell(operation, state)

    def _tell(self, operation: str, result: Operation | GannetError) -> None:
        for future in self._waiting.pop(operation, []):
            if future.done():
                continue
            if isinstance(result, GannetError):
                future.set_exception(result)
            else:
                future.set_result(result)

    def _forget(self, operation: str, future: "asyncio.Future[Operation]") -> None:
        futures = self._waiting.get(operation, [])
        if future in futures:
            futures.remove(future)
        if not futures:
            self._waiting.pop(operation, None)
