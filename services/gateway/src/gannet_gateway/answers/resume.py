"""Answers that outlive their stream: made by a task of their own, kept for a while, read from any event on.

A reader who leaves stops nothing at once. When nobody has read an answer in work for `grace_s`, it is given up; when it has ended, its
events are kept for `keep_s`. With a Redis the events are there too, so that any gateway can go on with them.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

import structlog

from gannet_gateway.answers.log import AnswerKey, AnswerLog
from gannet_gateway.answers.shared_log import SharedLog
from gannet_service import call
from gannet_service.errors import DeadlineTooShort, GannetError, InternalError, NotFound, NotReady, Overloaded

RETRY_S = 1.0

_logger: structlog.stdlib.BoundLogger = structlog.get_logger("answers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """How long and how much: seconds without a reader, seconds after the end, answers at once, bytes of their events in all."""

    grace_s: float
    keep_s: float
    answers_max: int
    bytes_max: int


@dataclass(slots=True)
class _Kept:
    log: AnswerLog
    task: asyncio.Task[None]
    readers: int = 0
    leaving: asyncio.Task[None] | None = None
    ended_at: float | None = None

    def stay(self) -> None:
        """Somebody reads it, or there is nothing to give up."""
        if self.leaving is not None:
            self.leaving.cancel()
            self.leaving = None


class ResumableAnswers:
    """See the module. Without a `shared` log only this process can go on with them."""

    def __init__(
        self, keeping: Keeping, shared: SharedLog | None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._keeping = keeping
        self._shared = shared
        self._clock = clock
        self._kept: dict[AnswerKey, _Kept] = {}

    async def begin(self, key: AnswerKey, events: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        """Make an answer of serialised `events`, and read it from its beginning.

        Raises:
            Overloaded: as many as are kept are in work.
            GannetError: what `events` raised.
        """
        self._make_room()
        log = AnswerLog()
        kept = self._kept[key] = _Kept(log, asyncio.create_task(self._make(key, log, events)))
        kept.task.add_done_callback(partial(self._ended, kept))
        async with aclosing(self._read(key, kept, 0)) as reading:
            async for event in reading:
                yield event

    async def resume(self, key: AnswerKey, seq: int) -> AsyncGenerator[bytes]:
        """The events of an answer from `seq` on.

        Raises:
            NotFound: it is not kept, or it is somebody else's.
            DependencyUnavailable: it was made by another gateway, which is gone.
            InvalidInput: there is no event before `seq`.
            GannetError: what the answer ended in.
        """
        self._forget_old()
        kept = self._kept.get(key)
        if kept is not None:
            reading = self._read(key, kept, seq)
        elif self._shared is not None:
            reading = self._shared.read(key, seq)
        else:
            raise NotFound("the answer is not kept", field="answer_id", reason="ANSWER_GONE")
        async with aclosing(reading):
            async for event in reading:
                yield event

    async def close(self) -> None:
        """Give up what is in work."""
        kept, self._kept = list(self._kept.values()), {}
        for one in kept:
            one.stay()
            one.task.cancel()
        await asyncio.gather(*(one.task for one in kept), return_exceptions=True)

    async def _make(self, key: AnswerKey, log: AnswerLog, events: AsyncGenerator[bytes]) -> None:
        """Run the answer to its end, whatever that is; the end of the log is the only one who learns of it."""
        copy = self._shared.writer(key) if self._shared is not None else None
        error: GannetError | None = None
        try:
            async with asyncio.timeout(call.remaining_s(86_400.0)), aclosing(events):
                async for event in events:
                    log.append(event)
                    if copy is not None:
                        await copy.append(event)
        except GannetError as raised:
            error = raised
        except TimeoutError:
            error = DeadlineTooShort("the deadline passed before the answer was complete")
        except asyncio.CancelledError:
            error = _given_up()
            raise
        except Exception as raised:  # the root of a task
            _logger.exception("answer", exc_info=raised)
            current = call.current()
            error = InternalError(f"internal error; quote request id {current.request_id if current else '-'}")
        finally:
            log.end(error)
        if copy is not None:
            await copy.end(error)

    async def _read(self, key: AnswerKey, kept: _Kept, seq: int) -> AsyncGenerator[bytes]:
        kept.readers += 1
        kept.stay()
        try:
            async with aclosing(kept.log.read(seq)) as reading:
                async for event in reading:
                    yield event
        finally:
            kept.readers -= 1
            if not kept.readers and not kept.log.ended:
                kept.leaving = asyncio.create_task(self._give_up(key, kept))

    async def _give_up(self, key: AnswerKey, kept: _Kept) -> None:
        """End an answer that nobody reads for a while, here or through another gateway."""
        while True:
            await asyncio.sleep(self._keeping.grace_s)
            if self._shared is None or not await self._shared.is_attended(key):
                kept.task.cancel()
                return

    def _ended(self, kept: _Kept, _task: asyncio.Task[None]) -> None:
        if not kept.log.ended:  # cancelled before its first step
            kept.log.end(_given_up())
        kept.ended_at = self._clock()
        kept.stay()

    def _forget_old(self) -> None:
        oldest = self._clock() - self._keeping.keep_s
        self._kept = {key: kept for key, kept in self._kept.items() if kept.ended_at is None or kept.ended_at >= oldest}

    def _make_room(self) -> None:
        """Forget the oldest that have ended until one more fits."""
        self._forget_old()
        for key in [key for key, kept in self._kept.items() if kept.ended_at is not None]:
            if self._fits():
                return
            del self._kept[key]
        if not self._fits():
            problem = f"{len(self._kept)} answers that can be resumed are in work"
            raise Overloaded(problem, reason="RESUMABLE_MAX", retry_after_s=RETRY_S)

    def _fits(self) -> bool:
        size_bytes = sum(kept.log.size_bytes for kept in self._kept.values())
        return len(self._kept) < self._keeping.answers_max and size_bytes < self._keeping.bytes_max


def _given_up() -> NotReady:
    return NotReady("the answer was given up", reason="ANSWER_GIVEN_UP")
