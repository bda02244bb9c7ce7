"""One answer as a stream of events. This is the whole path: retrieve, generate, complete.

Invariants, each with a test: deltas concatenated equal the completed text; `Retrieved` comes before any delta or citation; a citation
lies inside the text so far and names retrieved passages; `Completed` is last and comes once; closing the stream stops the generator.
"""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from gannet_gateway.answers.events import Completed, Event, Retrieved, Started
from gannet_gateway.answers.heartbeats import with_heartbeats
from gannet_gateway.answers.transcript import NO_ANSWER, Transcript
from gannet_gateway.clients import Cited, Done, Generator, Said
from gannet_gateway.ledger.records import Collection
from gannet_gateway.search.query import Query
from gannet_gateway.search.search import Searcher


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


def _us_since(started: float) -> int:
    return round((time.perf_counter() - started) * 1e6)
