"""One answer as a stream of events. This is the whole path: retrieve, generate, complete.

Invariants, each with a test: deltas concatenated equal the completed text; `Retrieved` comes before any delta or citation; a citation
lies inside the text so far and names retrieved passages; `Completed` is last and comes once; closing the stream stops the generator.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from gannet_gateway.clients import Cited, Done, Generator, Said
from gannet_gateway.ledger.records import Collection
from gannet_gateway.search.query import Degradation, Mode, Passage, Query, Timings
from gannet_gateway.search.search import Searcher
from gannet_service.errors import DependencyUnavailable

NO_ANSWER = "FINISH_REASON_NO_ANSWER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The answer has begun, from this generation."""

    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieved:
    """The passages that the answer is made from."""

    passages: tuple[Passage, ...]
    mode: Mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """The next piece of text, beginning at `start_byte` of the answer."""

    text: str
    start_byte: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Bytes `start_byte` to `end_byte` of the document of a retrieved passage."""

    passage_index: int
    start_byte: int
    end_byte: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """Bytes `start_byte` to `end_byte` of the answer are supported by `sources`."""

    start_byte: int
    end_byte: int
    sources: tuple[Source, ...]
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """Nothing happened for a while, and the answer is still being made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """The whole answer; `reason` is the name of a FinishReason. `first_delta_us` is 0 if nothing was said."""

    text: str
    citations: tuple[Citation, ...]
    reason: str
    passages: int
    sentences_scored: int
    tokens_read: int
    search_timings: Timings
    first_delta_us: int
    total_us: int


Event = Started | Retrieved | Delta | Citation | Heartbeat | Degradation | Completed


class Answerer:
    """Answers questions; a silence longer than `heartbeat_s` is broken by a Heartbeat."""

    def __init__(self, searcher: Searcher, generator: Generator, *, heartbeat_s: float) -> None:
        self._searcher = searcher
        self._generator = generator
        self._heartbeat_s = heartbeat_s

    async def stream(self, collection: Collection, query: Query, *, sentences_max: int) -> AsyncGenerator[Event]:
        """The events of one answer.

        Raises:
            GannetError: the answer failed; what was said before stands, and no Completed was or will be sent.
        """
        events = self._events(collection, query, sentences_max)
        async with aclosing(with_heartbeats(events, self._heartbeat_s)) as beating:
            async for event in beating:
                yield event

    async def _events(self, collection: Collection, query: Query, sentences_max: int) -> AsyncGenerator[Event]:
        started = time.perf_counter()
        yield Started(generation=collection.generation)
        found = await self._searcher.search(collection, query)
        yield Retrieved(passages=found.passages, mode=found.mode)
        for degradation in found.degraded:
            yield degradation
        transcript = Transcript(found.passages)
        done: Done | None = None
        first_delta_us = 0
        if found.passages:
            sources = [(passage.candidate.title, passage.candidate.text) for passage in found.passages]
            async with aclosing(self._generator.generate(query.text, sources, sentences_max=sentences_max)) as pieces:
                async for piece in pieces:
                    match piece:
                        case Said(text=text):
                            first_delta_us = first_delta_us or _us_since(started)
                            yield transcript.say(text)
                        case Cited():
                            yield transcript.cite(piece)
                        case Done():
                            done = piece
        else:
            done = Done(reason=NO_ANSWER, sentences_scored=0, tokens_read=0)
        done = transcript.finish(done)
        yield Completed(
            text=transcript.text,
            citations=tuple(transcript.citations),
            reason=done.reason,
            passages=len(found.passages),
            sentences_scored=done.sentences_scored,
            tokens_read=done.tokens_read,
            search_timings=found.timings,
            first_delta_us=first_delta_us,
            total_us=_us_since(started),
        )


class Transcript:
    """What was said and cited so far; turns the generator's offsets into the answer's and the documents', and checks them."""

    def __init__(self, passages: tuple[Passage, ...]) -> None:
        self._passages = passages
        self._text = bytearray()
        self.citations: list[Citation] = []

    @property
    def text(self) -> str:
        """Everything said."""
        return self._text.decode()

    def say(self, text: str) -> Delta:
        """Append a piece; raises DependencyUnavailable for an empty one."""
        if not text:
            raise _broken("an empty delta")
        delta = Delta(text=text, start_byte=len(self._text))
        self._text += text.encode()
        return delta

    def cite(self, cited: Cited) -> Citation:
        """Record a citation; raises DependencyUnavailable for one that points outside of the answer or its sources."""
        if not _is_span(self._text, cited.start_byte, cited.end_byte) or not cited.sources:
            raise _broken(f"a citation of bytes {cited.start_byte} to {cited.end_byte} of {len(self._text)}")
        sources = tuple(self._source(*span) for span in cited.sources)
        citation = Citation(start_byte=cited.start_byte, end_byte=cited.end_byte, sources=sources, score=cited.score)
        self.citations.append(citation)
        return citation

    def finish(self, done: Done | None) -> Done:
        """The generator's last word; raises DependencyUnavailable if it is missing or contradicts what was said."""
        if done is None:
            raise _broken("no last word")
        if (done.reason == NO_ANSWER) != (not self._text):
            raise _broken(f"{done.reason} after {len(self._text)} bytes")
        return done

    def _source(self, index: int, start: int, end: int) -> Source:
        if not 0 <= index < len(self._passages):
            raise _broken(f"a citation of source {index} of {len(self._passages)}")
        candidate = self._passages[index].candidate
        if not _is_span(candidate.text.encode(), start, end):
            raise _broken(f"a citation of bytes {start} to {end}, outside of source {index}")
        return Source(passage_index=index, start_byte=candidate.start_byte + start, end_byte=candidate.start_byte + end)


async def with_heartbeats(events: AsyncGenerator[Event], period_s: float) -> AsyncGenerator[Event]:
    """`events`, with a Heartbeat after every `period_s` of silence. Closing it closes `events`."""
    pending: asyncio.Task[Event] | None = None
    try:
        while True:
            pending = asyncio.ensure_future(anext(events))
            while not (await asyncio.wait([pending], timeout=period_s))[0]:
                yield Heartbeat()
            try:
                event = pending.result()
            except StopAsyncIteration:
                return
            yield event
    finally:
        if pending is not None and not pending.done():
            pending.cancel()
            await asyncio.wait([pending])
        await events.aclose()


def _is_span(data: bytes | bytearray, start: int, end: int) -> bool:
    """Whether bytes `start` to `end` of `data` are whole characters of it, at least one."""
    if not 0 <= start < end <= len(data):
        return False
    return data[start] & 0xC0 != 0x80 and (end == len(data) or data[end] & 0xC0 != 0x80)


def _broken(what: str) -> DependencyUnavailable:
    return DependencyUnavailable(f"generator: {what}", reason="GENERATOR_BROKEN")


def _us_since(started: float) -> int:
    return round((time.perf_counter() - started) * 1e6)
