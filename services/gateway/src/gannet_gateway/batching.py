"""Batching: questions that come while others are being answered leave together, as one call.

Nobody waits for company. A question leaves at once while fewer than `in_flight` calls are under way, else when the next of them
returns, and after `wait_s` in any case: a server that hangs holds up nothing that another one could answer.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from gannet_gateway.config import GatewayConfig
from gannet_service import call
from gannet_service.call import Call

SIZE_MAX = 16

K = TypeVar("K", bound=Hashable)
Q = TypeVar("Q")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching:
    """How many calls are under way before questions wait, and how long they wait at most; 0 s is until the loop's next turn."""

    in_flight: int = 2
    wait_s: float = 0.025

    @staticmethod
    def of(config: GatewayConfig) -> "Batching":
        """As configured."""
        return Batching(in_flight=config.batch_in_flight, wait_s=config.batch_wait_s)


DEFAULT = Batching()


@dataclass(slots=True, eq=False)
class _Question(Generic[Q, R]):
    question: Q
    call: Call | None
    answer: asyncio.Future[R]


@dataclass(slots=True, eq=False)
class _Lane(Generic[Q, R]):
    """Questions of one kind: those that wait, and how many calls are under way."""

    waiting: list[_Question[Q, R]] = field(default_factory=list[_Question[Q, R]])
    calls: int = 0
    timer: asyncio.TimerHandle | None = None


class Batcher(Generic[K, Q, R]):
    """Asks for many what each would ask alone, and gives each its own answer or error."""

    def __init__(self, ask: Callable[[K, list[Q]], Awaitable[Sequence[R | Exception]]], batching: Batching) -> None:
        """`ask` answers up to SIZE_MAX questions of a kind, in order; an error that it raises is everybody's."""
        self._ask = ask
        self._batching = batching
        self._lanes: dict[K, _Lane[Q, R]] = {}

    async def ask(self, kind: K, question: Q) -> R:
        """The answer to `question`.

        The call that asks has the latest deadline of those who wait for it, and is cancelled when nobody does any more.

        Raises:
            Exception: this question's own, or what the call for all of them raised.
        """
        loop = asyncio.get_running_loop()
        lane = self._lanes.get(kind)
        if lane is None:
            lane = self._lanes[kind] = _Lane()
        mine = _Question[Q, R](question, call.current(), loop.create_future())
        lane.waiting.append(mine)
        if lane.calls < self._batching.in_flight or len(lane.waiting) >= SIZE_MAX:
            self._send(kind, lane)
        elif lane.timer is None:
            lane.timer = loop.call_later(self._batching.wait_s, self._send, kind, lane)
        return await mine.answer

    def _send(self, kind: K, lane: _Lane[Q, R]) -> None:
        if lane.timer is not None:
            lane.timer.cancel()
            lane.timer = None
        batch = [one for one in lane.waiting if not one.answer.done()]
        lane.waiting.clear()
        if not batch:
            return
        lane.calls += 1
        asking = asyncio.ensure_future(self._answer(kind, batch))
        left = len(batch)

        def leave(answer: asyncio.Future[R]) -> None:
            nonlocal left
            left -= answer.cancelled()
            if not left:
                asking.cancel()

        def returned(_: asyncio.Task[None]) -> None:
            lane.calls -= 1
            self._send(kind, lane)
            if not lane.calls:
                del self._lanes[kind]

        for one in batch:
            one.answer.add_done_callback(leave)
        asking.add_done_callback(returned)

    async def _answer(self, kind: K, batch: list[_Question[Q, R]]) -> None:
        first = batch[0].call
        if first is not None:
            ends = [math.inf if one.call is None or one.call.deadline is None else one.call.deadline for one in batch]
            latest = max(ends)
            call.set_current(replace(first, deadline=None if latest == math.inf else latest))
        try:
            answers = await self._ask(kind, [one.question for one in batch])
            answered = list(zip(batch, answers, strict=True))
        except Exception as error:  # noqa: BLE001 - the root of a task: whoever waits gets the error
            answered = [(one, error) for one in batch]
        for one, answer in answered:
            if one.answer.done():
                continue
            if isinstance(answer, Exception):
                one.answer.set_exception(answer)
            else:
                one.answer.set_result(answer)
