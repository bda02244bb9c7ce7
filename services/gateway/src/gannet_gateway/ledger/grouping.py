"""Work that many callers ask for at once, done in one go: a transaction, or a request, costs the same for one as for a hundred."""

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog

from gannet_service.errors import GannetError, InternalError

T = TypeVar("T")
R = TypeVar("R")

_log: structlog.stdlib.BoundLogger = structlog.get_logger("grouping")


@dataclass(slots=True, eq=False)
class _Asked(Generic[T, R]):
    """One caller's item, and where its result goes."""

    item: T
    result: "asyncio.Future[R]"


class Grouped(Generic[T, R]):
    """Gathers items while a batch is in work, and makes the next batch of them. Nobody waits for company.

    Args:
        do: does a batch; a result or an error for each item, in order. What it raises is everybody's.
        batch_max: most items of a batch.
        undo: takes back results whose callers have left meanwhile.
    """

    def __init__(
        self,
        do: Callable[[list[T]], Awaitable[Sequence[R | GannetError]]],
        *,
        batch_max: int,
        undo: Callable[[list[R]], Awaitable[None]] | None = None,
    ) -> None:
        self._do = do
        self._batch_max = batch_max
        self._undo = undo
        self._waiting: deque[_Asked[T, R]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def submit(self, item: T) -> R:
        """The result for `item`; raises its error. Who is cancelled leaves the batch to the others."""
        asked = _Asked[T, R](item, asyncio.get_running_loop().create_future())
        self._waiting.append(asked)
        if self._task is None:
            # In a context of its own: the first caller's deadline is not the others'.
            self._task = asyncio.create_task(self._drain(), context=contextvars.Context())
        return await asked.result

    async def _drain(self) -> None:
        batch: list[_Asked[T, R]] = []
        problem: GannetError = InternalError("internal error; the gateway's log has it")
        try:
            while self._waiting:
                while self._waiting and len(batch) < self._batch_max:
                    asked = self._waiting.popleft()
                    if not asked.result.done():
                        batch.append(asked)
                if batch:
                    await self._do_batch(batch)
                    batch.clear()
        except Exception:  # noqa: BLE001 - the root of a task: whoever waits must hear of a bug
            _log.exception("a batch failed")
        finally:
            self._task = None
            for asked in [*batch, *self._waiting]:
                if not asked.result.done():
                    asked.result.set_exception(problem)
            self._waiting.clear()

    async def _do_batch(self, batch: list[_Asked[T, R]]) -> None:
        try:
            results = await self._do([asked.item for asked in batch])
        except GannetError as error:
            results = [error] * len(batch)
        unwanted: list[R] = []
        for asked, result in zip(batch, results, strict=True):
            if isinstance(result, GannetError):
                if not asked.result.done():
                    asked.result.set_exception(result)
            elif asked.result.done():
                unwanted.append(result)
            else:
                asked.result.set_result(result)
        if unwanted and self._undo is not None:
            try:
                await self._undo(unwanted)
            except GannetError as error:
                _log.warning("left for recovery", reason=error.reason, message=error.message)
