"""Single flight: callers who want the same value at the same time wait for one computation."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from gannet_service import call
from gannet_service.errors import DeadlineTooShort

T = TypeVar("T")


@dataclass(slots=True)
class _Flight(Generic[T]):
    task: asyncio.Task[T]
    deadline: float
    waiters: int = 0


class SingleFlight(Generic[T]):
    """Runs one computation a key. It holds no value after its computation has ended, and no error."""

    def __init__(self) -> None:
        self._flights: dict[bytes, _Flight[T]] = {}

    async def run(self, key: bytes, compute: Callable[[], Awaitable[T]]) -> T:
        """The result of `compute`, or of one that is under way for `key`.

        The computation runs with the deadline of the caller who began it. Who has more than twice the time that is left to it begins
        another. It goes on as long as anybody waits for it, and is cancelled when nobody does.

        Raises:
            DeadlineTooShort: this caller's deadline passed.
            Exception: what the computation raised, to everybody who waited for it.
        """
        while True:
            deadline = call.deadline_s()
            mine = math.inf if deadline is None else deadline
            flight = self._flights.get(key)
            if flight is None or not _is_long_enough(flight.deadline, mine):
                flight = self._begin(key, compute, mine)
            try:
                return await self._wait(key, flight, mine)
            except DeadlineTooShort:
                if time.monotonic() >= mine or flight.deadline >= mine:
                    raise

    def _begin(self, key: bytes, compute: Callable[[], Awaitable[T]], deadline: float) -> _Flight[T]:
        flight = self._flights[key] = _Flight(asyncio.ensure_future(_computed(compute)), deadline)

        def landed(task: asyncio.Task[T]) -> None:
            self._forget(key, flight)
            if not task.cancelled():
                task.exception()  # or asyncio complains of errors that nobody stayed to see

        flight.task.add_done_callback(landed)
        return flight

    async def _wait(self, key: bytes, flight: _Flight[T], deadline: float) -> T:
        flight.waiters += 1
        try:
            timeout_s = None if deadline == math.inf else max(0.0, deadline - time.monotonic())
            done, _ = await asyncio.wait([flight.task], timeout=timeout_s)
        finally:
            flight.waiters -= 1
            if not flight.waiters:
                flight.task.cancel()
                self._forget(key, flight)  # at once: nobody may join a computation that is being cancelled
        if not done:
            raise DeadlineTooShort("the deadline passed before the work was done")
        return flight.task.result()

    def _forget(self, key: bytes, flight: _Flight[T]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]


def _is_long_enough(theirs: float, mine: float) -> bool:
    now = time.monotonic()
    return theirs > now and (theirs == mine or theirs - now >= (mine - now) / 2)


async def _computed(compute: Callable[[], Awaitable[T]]) -> T:
    return await compute()
