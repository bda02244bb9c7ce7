"""Work that many callers ask for at once, done in one go: a transaction, or a request, costs the same for one as for a hundred."""

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

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
        batch_max: most items of a batch, or most of what `size` gives for them; a larger item is a batch of its own.
        in_work_max: batches in work at once; more than one where what does them would be idle between two.
        size: what an item takes of `batch_max`, >= 0.
        undo: takes back results whose callers have left meanwhile.
    """

    def __init__(
        self,
        do: Callable[[list[T]], Awaitable[Sequence[R | GannetError]]],
        *,
        batch_max: int,
        in_work_max: int = 1,
        size: Callable[[T], int] = lambda _: 1,
        undo: Callable[[list[R]], Awaitable[None]] | None = None,
    ) -> None:
        self._do = do
        self._batch_max = batch_max
        self._in_work_max = in_work_max
        self._size = size
        self._undo = undo
        self._waiting: deque[_Asked[T, R]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(self, item: T) -> R:
        """The result for `item`; raises its error. Who is cancelled leaves the batch to the others."""
        asked = _Asked[T, R](item, asyncio.get_running_loop().create_future())
        self._waiting.append(asked)
        if len(self._tasks) < self._in_work_max:
            # In a context of its own: the first caller's deadline is not the others'.
            self._tasks.add(asyncio.create_task(self._drain(), context=contextvars.Context()))
        return await asked.result

    async def _drain(self) -> None:
        batch: list[_Asked[T, R]] = []
        problem: GannetError = InternalError("internal error; the gateway's log has it")
        try:
            while self._waiting:
                batch += self._next()
                if batch:
                    await self._do_batch(batch)
                    batch.clear()
        except Exception:  # noqa: BLE001 - the root of a task: whoever waits must hear of a bug
            _log.exception("a batch failed")
        finally:
            # Not a callback of the task: an item that came in between would wait for nobody.
            self._tasks.discard(cast("asyncio.Task[None]", asyncio.current_task()))
            for asked in [*batch, *self._waiting]:
                if not asked.result.done():
                    asked.result.set_exception(problem)
            self._waiting.clear()

    def _next(self) -> list[_Asked[T, R]]:
        batch: list[_Asked[T, R]] = []
        taken = 0
        while self._waiting:
            asked = self._waiting[0]
            if not asked.result.done():  # its caller is still there
                taken += self._size(asked.item)
                if batch and taken > self._batch_max:
                    break
                batch.append(asked)
            self._waiting.popleft()
        return batch

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


async def in_requests(
    items: Sequence[T],
    key: Callable[[T], Hashable],
    request: Callable[[list[T]], Awaitable[Sequence[R | GannetError]]],
    *,
    blames: tuple[type[GannetError], ...],
) -> list[R | GannetError]:
    """What becomes of each item, in order: those of one `key` share a request, those of different keys never do.

    Args:
        items: a batch.
        key: what a request says for all of its items.
        request: does one; a result or an error for each of its items, in order.
        blames: errors of a request for which one of its items may be to blame: each is asked for alone then, and fails alone. So it is
            with a bug. Any other error is everybody's in that request.
    """
    results: dict[int, R | GannetError] = {}

    async def ask(places: Sequence[int]) -> None:
        try:
            found = await request([items[place] for place in places])
            results.update(zip(places, found, strict=True))
            return
        except GannetError as error:
            problem, alone = error, isinstance(error, blames)
        except Exception:  # noqa: BLE001 - the root of a task: a bug in one item must not fail the others
            _log.exception("a request failed")
            problem, alone = InternalError("internal error; the gateway's log has it"), True
        if alone and len(places) > 1:
            await ask_all([[place] for place in places])
        else:
            results.update(dict.fromkeys(places, problem))

    async def ask_all(requests: Iterable[Sequence[int]]) -> None:
        async with asyncio.TaskGroup() as tasks:
            for places in requests:
                tasks.create_task(ask(places))

    alike: dict[Hashable, list[int]] = {}
    for place, item in enumerate(items):
        alike.setdefault(key(item), []).append(place)
    await ask_all(alike.values())
    return [results[place] for place in range(len(items))]
