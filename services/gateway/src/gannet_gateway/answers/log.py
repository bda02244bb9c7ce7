"""The events of one answer, for readers who come and go: each takes them from any place on, and waits for those that are not there yet."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from gannet_service.errors import GannetError, InvalidInput, Overloaded

EVENTS_MAX = 20_000
LOG_BYTES_MAX = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerKey:
    """Whose answer it is, and which: whoever is not its owner does not find it."""

    tenant: str
    owner: str
    answer_id: str


@dataclass(slots=True)
class AnswerLog:
    """Serialised events; the one at place i has `seq` = i. `error` is what the answer ended in, if not well."""

    events: list[bytes] = field(default_factory=list[bytes])
    size_bytes: int = 0
    ended: bool = False
    error: GannetError | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def append(self, event: bytes) -> None:
        """Add the next event; raises Overloaded where the answer is longer than any that is kept."""
        if len(self.events) >= EVENTS_MAX or self.size_bytes + len(event) > LOG_BYTES_MAX:
            raise Overloaded("the answer is longer than what can be resumed", reason="ANSWER_TOO_LONG")
        self.events.append(event)
        self.size_bytes += len(event)
        self._wake()

    def end(self, error: GannetError | None) -> None:
        """Nothing follows."""
        self.ended, self.error = True, error
        self._wake()

    async def read(self, seq: int) -> AsyncGenerator[bytes]:
        """The events from `seq` on, to the answer's end.

        Raises:
            InvalidInput: there is no event before that one.
            GannetError: what the answer ended in.
        """
        if seq > len(self.events):
            raise InvalidInput(f"seq: {seq}; the answer has {len(self.events)} events so far", field="seq")
        while True:
            while seq < len(self.events):
                yield self.events[seq]
                seq += 1
            if self.ended:
                break
            await self._changed.wait()
        if self.error is not None:
            raise self.error

    def _wake(self) -> None:
        # Whoever waits holds the old one.
        self._changed.set()
        self._changed = asyncio.Event()
