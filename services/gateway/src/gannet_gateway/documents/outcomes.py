"""Waiting for operations to be done, whichever gateway does them: many waiters, one read."""

import asyncio
from collections import defaultdict

import structlog

from gannet_gateway.ledger.operations import Operation, Operations
from gannet_service.errors import GannetError, NotFound, NotReady

ASKED_MAX = 500

_log: structlog.stdlib.BoundLogger = structlog.get_logger("outcomes")


class Outcomes:
    """Reads the operations that are waited for: at once when something ended here, else every `poll_s`."""

    def __init__(self, operations: Operations, *, poll_s: float) -> None:
        self._operations = operations
        self._poll_s = poll_s
        self._waiting: dict[str, list[asyncio.Future[Operation]]] = defaultdict(list)
        self._looked = asyncio.Event()
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
        self._looked.set()
        if self._task is None:
            self._task = asyncio.create_task(self._watch())
        try:
            return await future
        finally:
            if not future.done() or future.cancelled():
                self._forget(operation, future)

    def ended(self) -> None:
        """Something has ended here: look."""
        self._looked.set()

    def drain(self, kept: set[str]) -> None:
        """Send everyone away who waits for another operation than `kept`, those that this gateway still finishes."""
        self._kept = kept
        for operation in set(self._waiting) - kept:
            self._tell(operation, NotReady("this gateway is going away", reason="DRAINING"))

    async def _watch(self) -> None:
        try:
            while self._waiting:
                self._looked.clear()
                try:
                    await self._look()
                except GannetError as error:
                    _log.warning("outcomes not read", reason=error.reason)
                if self._waiting:
                    await self._pause()
        finally:
            self._task = None

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._poll_s):
                await self._looked.wait()
        except TimeoutError:
            return

    async def _look(self) -> None:
        asked = list(self._waiting)
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
