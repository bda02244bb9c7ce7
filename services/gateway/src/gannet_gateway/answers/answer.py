"""One answer as a stream of events. This is the whole path: stand alone, retrieve, generate, verify, complete.

Invariants, each with a test: deltas concatenated equal the completed text; `Retrieved` comes before any delta or citation; a citation
lies inside the text so far and names retrieved passages; `Completed` is last and comes once; closing the stream stops the generator.
"""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from gannet_gateway.answers.attribution import Attribution, attribute
from gannet_gateway.answers.chain import GeneratorChain
from gannet_gateway.answers.events import Completed, Event, Retrieved, Started
from gannet_gateway.answers.heartbeats import with_heartbeats
from gannet_gateway.answers.pieces import NO_ANSWER, Ended
from gannet_gateway.answers.question import Question
from gannet_gateway.answers.rewriting import Rewriter
from gannet_gateway.answers.transcript import Transcript
from gannet_gateway.answers.writing import Writing
from gannet_gateway.clients import Done, Generator
from gannet_gateway.config import GatewayConfig
from gannet_gateway.ledger.conversations import Conversations, Turn
from gannet_gateway.search.query import Degradation
from gannet_gateway.search.search import Searcher
from gannet_service.errors import GannetError


class Answerer:
    """Answers questions; a silence longer than the configured one is broken by a Heartbeat."""

    def __init__(
        self, searcher: Searcher, generator: Generator, conversations: Conversations, config: GatewayConfig
    ) -> None:
        self._searcher = searcher
        self._generator = generator
        self._conversations = conversations
        self._config = config
        self._chain = GeneratorChain(
            generator, failures_max=config.generator_failures_max, pause_s=config.generator_pause_s
        )
        self._rewriter = Rewriter(generator, timeout_s=config.rewrite_timeout_s)

    async def stream(self, question: Question) -> AsyncGenerator[Event]:
        """The events of one answer.

        Raises:
            GannetError: the answer failed; what was said before stands, and no Completed was or will be sent.
        """
        async with aclosing(with_heartbeats(self._events(question), self._config.heartbeat_s)) as beating:
            async for event in beating:
                yield event

    async def _events(self, question: Question) -> AsyncGenerator[Event]:
        started = time.perf_counter()
        standalone, skipped = await self._rewriter.standalone(question)
        yield Started(
            generation=question.collection.generation,
            rewritten_queries=() if standalone == question.query.text else (standalone,),
            models=await self._rewriter.models(question),
        )
        for degradation in skipped:
            yield degradation
        found = await self._searcher.search(question.collection, replace(question.query, text=standalone))
        yield Retrieved(passages=found.passages, mode=found.mode)
        for degradation in found.degraded:
            yield degradation
        transcript = Transcript(found.passages)
        writing = Writing(question, standalone, found.passages, self._generator, self._config)
        ended = Ended(done=Done(reason=NO_ANSWER), marked=None)
        if found.passages:
            pieces = self._chain.generate(question.generators, writing.ask, source_count=len(found.passages))
            async with aclosing(pieces):
                async for piece in pieces:
                    if isinstance(piece, Ended):
                        ended = piece
                    else:
                        yield transcript.take(piece)
        done = transcript.finish(ended.done)
        verifying = time.perf_counter()
        attribution, unverified = await self._attributed(ended, transcript, writing)
        for cited in attribution.cited:
            yield transcript.cite(cited)
        verify_us = _us(time.perf_counter() - verifying)
        for degradation in (*unverified, *await self._remembered(question, transcript.text, done.reason)):
            yield degradation
        yield Completed(
            text=transcript.text,
            citations=tuple(transcript.citations),
            reason=done.reason,
            passages=len(found.passages),
            sentences_scored=done.sentences_scored,
            tokens_read=done.tokens_read + attribution.tokens_read,
            search_timings=found.timings,
            first_delta_us=_us(transcript.first_said_at - started) if transcript.text else 0,
            total_us=_us(time.perf_counter() - started),
            unsupported=tuple((one.start_byte, one.end_byte) for one in attribution.unsupported),
            generator=done.generator,
            model=done.model,
            prompt_tokens=done.prompt_tokens,
            completion_tokens=done.completion_tokens,
            queue_us=done.queue_us,
            verify_us=verify_us if ended.marked else 0,
        )

    async def _attributed(
        self, ended: Ended, transcript: Transcript, writing: Writing
    ) -> tuple[Attribution, tuple[Degradation, ...]]:
        """What passages say the sentences of a free text; a generator that quotes has cited them itself."""
        nothing = Attribution(cited=(), unsupported=(), tokens_read=0)
        if ended.marked is None or not transcript.text:
            return nothing, ()
        try:
            found = await attribute(
                self._generator,
                transcript.text,
                writing.sources,
                marks=ended.marked.marks,
                timeout_s=self._config.verify_timeout_s,
            )
            return found, ()
        except GannetError as error:
            return nothing, (Degradation(stage="verify", reason=error.reason),)

    async def _remembered(self, question: Question, text: str, reason: str) -> tuple[Degradation, ...]:
        """Add the turn to its conversation, so that it is durable when `Completed` is read."""
        if question.conversation is None:
            return ()
        turn = Turn(
            answer_id=question.answer_id,
            question=question.query.text,
            answer=text,
            finish_reason=reason,
            generation=question.collection.generation,
        )
        try:
            await self._conversations.append(question.conversation, question.owner, turn)
        except GannetError as error:
            return (Degradation(stage="conversation", reason=error.reason),)
        return ()


def _us(seconds: float) -> int:
    return round(seconds * 1e6)
