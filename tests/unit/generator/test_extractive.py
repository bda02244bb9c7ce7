"""The quoting generator's work: what becomes of it when a caller leaves, the queue is full or a sentence fails."""

import asyncio
from collections.abc import Callable, Iterator

import pytest
from fakes.gated_model import WAIT_S, GatedSession, cross_encoder

from gannet_generator.extractive.generator import ExtractiveGenerator, Policy
from gannet_generator.generation import Delta, Event, Finished, Reading, Request, Source
from gannet_generator.scoring import PairScorer
from gannet_inference.encoder import CrossEncoder
from gannet_inference.errors import ModelFailure
from gannet_service.errors import Overloaded

POLICY = Policy(threshold=20.0, margin=3.0, sentence_bytes_max=600, sentences_scored_max=3)
SOURCE = "The gannet dives deep. It nests on high cliffs. Both sexes look alike. Its eggs are pale blue."


@pytest.fixture
def session() -> Iterator[GatedSession]:
    """A session whose gate is opened at the end, so that no thread is left waiting."""
    session = GatedSession(pairs=True)
    yield session
    session.gate.set()


async def until(condition: Callable[[], bool]) -> None:
    """Lets the other tasks and threads go on until the condition holds."""
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - what is waited for happens on threads that know no asyncio event
            await asyncio.sleep(0)


@pytest.fixture
def generators() -> Iterator[Callable[..., ExtractiveGenerator]]:
    """Makes generators whose scorers are closed with the test."""
    scorers: list[PairScorer] = []

    def make(encoder: CrossEncoder) -> ExtractiveGenerator:
        scorers.append(PairScorer(encoder, queue_requests_max=8))
        return ExtractiveGenerator(scorers[-1], POLICY)

    yield make
    for scorer in scorers:
        scorer.close()


async def answer(generator: ExtractiveGenerator, *sources: str) -> list[Event]:
    """Every event of an answer."""
    given = [Source(text=text, title="") for text in sources]
    return [event async for event in generator.generate(Request(question="dive", sources=given, sentences_max=2))]


async def test_answer_says_the_best_sentence_first_and_finishes_with_what_it_read(session, generators):
    """The fake's logit is the sentence's length: the two longest of the three that were scored."""
    session.gate.set()
    generator = generators(cross_encoder(session, queue_max=8))
    events = await answer(generator, SOURCE)
    assert [event.text for event in events if isinstance(event, Delta)] == [
        "It nests on high cliffs.",
        " The gannet dives deep.",
    ]
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert (finished.reason, finished.reading) == ("length", Reading(best_logit=24.0, sentences=3, tokens=68))


async def test_answer_when_cancelled_takes_waiting_sentences_out_of_the_queue(session, generators):
    """The sentence that runs is finished, those that wait never start."""
    encoder = cross_encoder(session, queue_max=8)
    generator = generators(encoder)
    call = asyncio.create_task(answer(generator, SOURCE))
    await until(lambda: session.started.qsize() == 1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert encoder.waiting == 0
    session.gate.set()
    await answer(generator, "Another sentence to be scored.")
    assert len(session.started_so_far()) == 2


async def test_answer_with_a_full_queue_is_refused_with_a_hint(session, generators):
    """All sentences of an answer are taken or none, and the refusal says when to come back."""
    session.gate.set()
    generator = generators(cross_encoder(session, queue_max=2))
    with pytest.raises(Overloaded) as refused:
        await answer(generator, SOURCE)
    assert refused.value.retry_after_s > 0


async def test_answer_from_a_sentence_that_the_model_fails_on_says_nothing(session, generators):
    """The failure comes before any text, and nobody scores the other sentences for it."""
    encoder = cross_encoder(session, queue_max=8)
    generator = generators(encoder)
    with pytest.raises(ModelFailure):
        await answer(generator, f"The model fails here! {SOURCE}")
    assert encoder.waiting == 0
    session.gate.set()
