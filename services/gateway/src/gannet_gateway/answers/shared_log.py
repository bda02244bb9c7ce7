"""Events of resumable answers in Redis, so that a gateway can go on with what another one makes."""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Callable

from gannet_gateway.answers.log import AnswerKey
from gannet_gateway.answers.wire import pack_error, unpack_error
from gannet_gateway.cache.keys import cache_key
from gannet_gateway.cache.shared import SharedTier
from gannet_service.errors import DependencyUnavailable, GannetError, InvalidInput, NotFound

POLL_S = 0.1
_EVENT, _END = b"e", b"."


class SharedLog:
    """A list a key: its events in order, then how it ended. The key is a digest over tenant and owner too, so nobody else's is found.

    A second list, which ends with its last reader, tells the gateway that makes the answer that somebody reads it elsewhere.
    """

    def __init__(
        self,
        tier: SharedTier,
        *,
        keep_s: float,
        attended_s: float,
        silence_max_s: float,
        poll_s: float = POLL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Over `tier`.

        Args:
            tier: Redis.
            keep_s: how long after its last event an answer is kept.
            attended_s: how long a look at an answer counts as reading it.
            silence_max_s: how long an answer in work may add nothing before its gateway counts as gone; heartbeats come more often.
            poll_s: pause between two looks.
            clock: monotonic seconds.
        """
        self._tier = tier
        self._keep_s = keep_s
        self._attended_s = attended_s
        self._silence_max_s = silence_max_s
        self._poll_s = poll_s
        self._clock = clock

    def writer(self, key: AnswerKey) -> "Writer":
        """Writes one answer."""
        return Writer(self._tier, _redis_key(key), keep_s=self._keep_s)

    async def read(self, key: AnswerKey, seq: int) -> AsyncGenerator[bytes]:
        """The events from `seq` on, to the answer's end; see ResumableAnswers.resume."""
        redis_key = _redis_key(key)
        known = await self._look(redis_key, 0)
        if not known:
            raise NotFound("the answer is not kept", field="answer_id", reason="ANSWER_GONE")
        events = sum(entry.startswith(_EVENT) for entry in known)
        if seq > events:
            raise InvalidInput(f"seq: {seq}; the answer has {events} events so far", field="seq")
        pending, heard_at = known[seq:], self._clock()
        attended_at = -math.inf
        while True:
            if self._clock() - attended_at > self._attended_s / 2:
                await self._tier.append(_attendance(key), b"", ttl_s=self._attended_s)
                attended_at = self._clock()
            for entry in pending:
                if not entry.startswith(_EVENT):
                    if error := unpack_error(entry[len(_END) :]):
                        raise error
                    return
                yield entry[len(_EVENT) :]
            seq += len(pending)
            if pending:
                heard_at = self._clock()
            elif self._clock() - heard_at > self._silence_max_s:
                raise DependencyUnavailable("the gateway that made the answer is gone", reason="ANSWER_LOST")
            await asyncio.sleep(self._poll_s)
            pending = await self._look(redis_key, seq)

    async def is_attended(self, key: AnswerKey) -> bool:
        """Whether a gateway reads it; no if Redis does not say."""
        return bool(await self._tier.read_list(_attendance(key), 0))

    async def _look(self, redis_key: bytes, start: int) -> list[bytes]:
        found = await self._tier.read_list(redis_key, start)
        if found is None:
            raise DependencyUnavailable("the log of answers does not answer", reason="ANSWER_LOST")
        return found


class Writer:
    """Adds the events of one answer. After a failure nothing more is added: a list with a hole would be another answer."""

    def __init__(self, tier: SharedTier, redis_key: bytes, *, keep_s: float) -> None:
        self._tier = tier
        self._redis_key = redis_key
        self._keep_s = keep_s
        self._whole = True

    async def append(self, event: bytes) -> None:
        """Add an event."""
        await self._add(_EVENT + event)

    async def end(self, error: GannetError | None) -> None:
        """Say that nothing follows."""
        await self._add(_END + (pack_error(error) if error is not None else b""))

    async def _add(self, entry: bytes) -> None:
        if self._whole:
            self._whole = await self._tier.append(self._redis_key, entry, ttl_s=self._keep_s)


def _redis_key(key: AnswerKey) -> bytes:
    return cache_key("answer-log1", key.tenant, key.owner, key.answer_id)


def _attendance(key: AnswerKey) -> bytes:
    return cache_key("answer-read1", key.tenant, key.owner, key.answer_id)
