"""Every invariant of the answer stream, over generators that do whatever they like."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.gateway.fakes import candidate, collection_record

from gannet.gateway.v1 import answer_pb2
from gannet_gateway.answers import wire
from gannet_gateway.answers.answer import Answerer
from gannet_gateway.answers.events import (
    Citation,
    Completed,
    Delta,
    Event,
    Heartbeat,
    Retrieved,
    Started,
)
from gannet_gateway.answers.resume import Keeping, ResumableAnswers
from gannet_gateway.answers.servicer import AnswerServicer
from gannet_gateway.answers.transcript import NO_ANSWER
from gannet_gateway.clients import Cited, Done, Said
from gannet_gateway.config import GatewayConfig
from gannet_gateway.ledger.ledger import Ledger
from gannet_gateway.search.query import Degradation, Mode, Passage, Query, Result, Timings
from gannet_gateway.vectors.retriever import Fusion
from gannet_service.errors import DeadlineTooShort, DependencyUnavailable, GannetError, InvalidInput, Overloaded

RECORD = collection_record()
QUERY = Query(text="why?", top_k=5, mode=Mode.HYBRID, fusion=Fusion(k=60, dense_weight=1, sparse_weight=1), rerank=None)
STOP, LENGTH = "FINISH_REASON_STOP", "FINISH_REASON_LENGTH"
SOURCE = "Izvor čćž: 日本 😀."
SOURCE_BYTES = len(SOURCE.encode())


class Behaviour:
    """A generator: what it sends, and how it ends."""

    def __init__(self, pieces: Sequence[Any]) -> None:
        self.pieces = pieces
        self.closed = False

    async def generate(self, *_arguments: Any, **_options: Any) -> AsyncGenerator[Any]:
        """Send the pieces; an exception among them is raised, "silence" lets the loop turn."""
        try:
            for piece in self.pieces:
                if isinstance(piece, Exception):
                    raise piece
                if piece == "silence":
                    for _ in range(10):
                        await asyncio.sleep(0)
                else:
                    yield piece
        finally:
            self.closed = True


class Search:
    """A search that finds `count` passages."""

    def __init__(self, count: int = 2, degraded: tuple[Degradation, ...] = ()) -> None:
        passages = tuple(
            Passage(candidate=candidate(place, text=SOURCE, start_byte=100 * place), final=1.0)
            for place in range(count)
        )
        timings = Timings(embed_us=1, search_us=1, rerank_us=0, total_us=2)
        self.result = Result(mode=Mode.HYBRID, passages=passages, generation=1, degraded=degraded, timings=timings)

    async def search(self, *_arguments: Any) -> Result:
        """Always the same."""
        return self.result


def done(reason: str = STOP) -> Done:
    """The last word."""
    return Done(reason=reason, sentences_scored=3, tokens_read=9)


async def answer(
    behaviour: Behaviour, search: Any = None, *, heartbeat_s: float = 60.0, take: int | None = None
) -> tuple[list[Event], GannetError | None]:
    """The events of one answer and the error it ended in; after `take` events the client leaves."""
    events: list[Event] = []
    stream = Answerer(search or Search(), behaviour, heartbeat_s=heartbeat_s).stream(RECORD, QUERY, sentences_max=3)
    try:
        async for event in stream:
            events.append(event)
            if len(events) == take:
                break
    except GannetError as error:
        return events, error
    finally:
        await stream.aclose()
    return events, None


ERRORS = st.sampled_from(
    [DependencyUnavailable("gone"), Overloaded("full"), DeadlineTooShort("late"), InvalidInput("bad")]
)
SPANS = st.tuples(st.integers(-1, 2), st.integers(-1, SOURCE_BYTES + 1), st.integers(-1, SOURCE_BYTES + 1))
CITATIONS = st.builds(
    lambda start, end, sources: Cited(start_byte=start, end_byte=end, sources=tuple(sources), score=1.0),
    st.integers(-1, 30),
    st.integers(-1, 30),
    st.lists(SPANS, max_size=2),
)
PIECES = st.lists(
    st.text("aé日😀 ", max_size=4).map(lambda text: Said(text=text))
    | CITATIONS
    | st.builds(done, st.sampled_from([STOP, LENGTH, NO_ANSWER]))
    | ERRORS
    | st.just("silence"),
    max_size=12,
)


def check_invariants(events: list[Event], error: GannetError | None, *, left: bool) -> None:
    """What must hold for every answer; `left`: the client went away before its end."""
    shown = [event for event in events if not isinstance(event, Heartbeat)]
    if shown:
        assert isinstance(shown[0], Started)
    assert [type(event) for event in shown].count(Started) <= 1
    retrieved = [event for event in events if isinstance(event, Retrieved)]
    assert len(retrieved) <= 1
    text, citations = b"", []
    for event in events:
        match event:
            case Delta():
                assert retrieved
                assert events.index(retrieved[0]) < events.index(event)
                assert event.text
                assert event.start_byte == len(text)
                text += event.text.encode()
            case Citation():
                assert 0 <= event.start_byte < event.end_byte <= len(text)
                text[event.start_byte : event.end_byte].decode()
                assert event.sources
                for source in event.sources:
                    cited = retrieved[0].passages[source.passage_index].candidate
                    assert cited.start_byte <= source.start_byte < source.end_byte <= cited.end_byte
                    quoted = cited.text.encode()[
                        source.start_byte - cited.start_byte : source.end_byte - cited.start_byte
                    ]
                    quoted.decode()
                citations.append(event)
            case _:
                pass
    completed = [event for event in events if isinstance(event, Completed)]
    if left:
        assert error is None
        return
    # Exactly one terminal outcome: Completed as the last event, or an error.
    assert (len(completed) == 1) != (error is not None)
    if completed:
        assert events[-1] is completed[0]
        assert completed[0].text.encode() == text
        assert list(completed[0].citations) == citations
        assert (completed[0].reason == NO_ANSWER) == (not text)


@given(PIECES)
def test_stream_over_any_generator_keeps_every_invariant(pieces: list[Any]):
    """Faults, broken offsets, empty deltas, missing and repeated last words: an answer, or an error, never half of each."""
    behaviour = Behaviour(pieces)
    events, error = asyncio.run(answer(behaviour))
    check_invariants(events, error, left=False)
    assert behaviour.closed


@given(PIECES, st.integers(1, 8))
def test_stream_left_at_any_event_closes_the_generator(pieces: list[Any], take: int):
    """A client that leaves stops the generator before its next step."""
    behaviour = Behaviour(pieces)
    events, error = asyncio.run(answer(behaviour, take=take))
    check_invariants(events, error, left=len(events) == take)
    assert behaviour.closed or not any(isinstance(event, Delta | Citation) for event in events)


@given(PIECES)
def test_stream_with_heartbeats_keeps_every_invariant(pieces: list[Any]):
    """Heartbeats between any two events change nothing else."""
    plain, plain_error = asyncio.run(answer(Behaviour(pieces)))
    beating, error = asyncio.run(answer(Behaviour(pieces), heartbeat_s=0.0))
    check_invariants(beating, error, left=False)
    without = [event for event in beating if not isinstance(event, Heartbeat)]
    assert [_timeless(event) for event in without] == [_timeless(event) for event in plain]
    assert type(error) is type(plain_error)


def _timeless(event: Event) -> Any:
    return (event.text, event.citations, event.reason) if isinstance(event, Completed) else event


async def test_stream_of_a_whole_answer_is_complete():
    """Started, Retrieved, deltas and citations, Completed with usage."""
    cited = Cited(start_byte=0, end_byte=2, sources=((1, 6, 8),), score=2.5)
    events, error = await answer(Behaviour([Said(text="č"), cited, Said(text="b"), done(LENGTH)]))
    assert error is None
    assert [type(event) for event in events] == [Started, Retrieved, Delta, Citation, Delta, Completed]
    assert events[3].sources[0].start_byte == 106
    completed = events[-1]
    assert (completed.text, completed.reason, completed.passages, completed.tokens_read) == ("čb", LENGTH, 2, 9)


async def test_stream_without_passages_asks_no_generator():
    """Nothing found is no answer, said explicitly; the generator is not asked to invent one."""
    behaviour = Behaviour([Said(text="invented"), done()])
    events, error = await answer(behaviour, Search(0))
    assert error is None
    assert [type(event) for event in events] == [Started, Retrieved, Completed]
    assert (events[-1].text, events[-1].reason) == ("", NO_ANSWER)
    assert not behaviour.closed


async def test_stream_of_a_degraded_search_warns():
    """The reader learns that a stage was skipped, before the answer."""
    degradation = Degradation(stage="rerank", reason="UNAVAILABLE")
    events, _ = await answer(Behaviour([Said(text="a"), done()]), Search(1, (degradation,)))
    assert events[2] == degradation


async def test_stream_of_a_search_that_fails_has_no_completed():
    """Started and then the error."""

    class Down:
        async def search(self, *_arguments: Any) -> Result:
            raise DependencyUnavailable("vectors are down")

    events, error = await answer(Behaviour([]), Down())
    assert [type(event) for event in events] == [Started]
    assert error.message == "vectors are down"


@pytest.mark.parametrize(
    "pieces, problem",
    [
        ([Said(text="a")], "generator: no last word"),
        ([Said(text="")], "generator: an empty delta"),
        ([Said(text="a"), done(NO_ANSWER)], "generator: FINISH_REASON_NO_ANSWER after 1 bytes"),
        ([done(STOP)], "generator: FINISH_REASON_STOP after 0 bytes"),
        ([Said(text="ab"), Cited(start_byte=0, end_byte=3, sources=((0, 0, 1),), score=0)], "bytes 0 to 3 of 2"),
        ([Said(text="č"), Cited(start_byte=1, end_byte=2, sources=((0, 0, 1),), score=0)], "bytes 1 to 2 of 2"),
        ([Said(text="a"), Cited(start_byte=0, end_byte=1, sources=(), score=0)], "bytes 0 to 1 of 1"),
        ([Said(text="a"), Cited(start_byte=0, end_byte=1, sources=((-1, 0, 1),), score=0)], "source -1 of 2"),
        ([Said(text="a"), Cited(start_byte=0, end_byte=1, sources=((2, 0, 1),), score=0)], "source 2 of 2"),
        ([Said(text="a"), Cited(start_byte=0, end_byte=1, sources=((0, 0, 99),), score=0)], "outside of source 0"),
    ],
)
async def test_stream_of_a_broken_generator_ends_in_its_name(pieces: list[Any], problem: str):
    """Each way in which a generator can contradict itself is named; no Completed is sent."""
    events, error = await answer(Behaviour(pieces))
    assert problem in error.message
    assert error.reason == "GENERATOR_BROKEN"
    assert not any(isinstance(event, Completed) for event in events)


async def test_stream_of_a_silent_generator_beats():
    """As long as nothing happens, and at once again when the client goes on reading; leaving ends the wait."""
    closed = asyncio.Event()

    class Silent:
        async def generate(self, *_arguments: Any, **_options: Any) -> AsyncGenerator[Any]:
            try:
                yield Said(text="a")
                await asyncio.Event().wait()
            finally:
                closed.set()

    stream = Answerer(Search(), Silent(), heartbeat_s=0.0).stream(RECORD, QUERY, sentences_max=3)
    seen: list[Event] = []
    while sum(isinstance(event, Heartbeat) for event in seen) < 50:
        seen.append(await anext(stream))
    assert [type(event) for event in seen if not isinstance(event, Heartbeat)] == [Started, Retrieved, Delta]
    await stream.aclose()
    assert closed.is_set()


async def test_stream_cancelled_in_the_middle_closes_the_generator():
    """A task that is cancelled while it waits for the generator cancels the generator."""
    entered, closed = asyncio.Event(), asyncio.Event()

    class Hanging:
        async def generate(self, *_arguments: Any, **_options: Any) -> AsyncGenerator[Any]:
            try:
                entered.set()
                await asyncio.Event().wait()
                yield Said(text="never")
            finally:
                closed.set()

    reading = asyncio.create_task(answer(Hanging()))
    await entered.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert closed.is_set()


@given(PIECES)
def test_events_on_the_wire_say_the_same(pieces: list[Any]):
    """Sequence numbers without gaps, one id, one kind of event each; offsets and text as they were."""
    events, _ = asyncio.run(answer(Behaviour(pieces)))
    messages = [wire.from_event(event, seq=place, answer_id="id") for place, event in enumerate(events)]
    assert [message.seq for message in messages] == list(range(len(events)))
    for message, event in zip(messages, events, strict=True):
        kind = message.WhichOneof("event")
        expected = "warning" if isinstance(event, Degradation) else type(event).__name__.lower()
        assert (kind, message.answer_id) == (expected, "id")
        if isinstance(event, Completed):
            assert message.completed.text == event.text
            assert answer_pb2.FinishReason.Name(message.completed.finish_reason) == event.reason
            assert len(message.completed.citations) == len(event.citations)


@pytest.mark.parametrize("value", [51, 2**32 - 1])
def test_sentences_max_over_the_limit_is_refused(value: int):
    """The limits are named."""
    with pytest.raises(InvalidInput, match=f"sentences_max: {value}; the limits are 1 to 50"):
        wire.check_sentences_max(value)


async def test_answer_rpcs_number_their_events_and_agree(ledger: Ledger):
    """`seq` counts from 0 without gaps under one id; the unary answer holds what the stream said."""
    pieces = [Said(text="č"), Cited(start_byte=0, end_byte=2, sources=((1, 6, 8),), score=2.5), done()]
    keeping = Keeping(grace_s=0, keep_s=60, answers_max=9, bytes_max=1 << 20)
    answerer = Answerer(Search(), Behaviour(pieces), heartbeat_s=60)
    servicer = AnswerServicer(ledger, answerer, ResumableAnswers(keeping, None), GatewayConfig())
    request = answer_pb2.AnswerRequest(parent="tenants/-/collections/docs", query="why?")
    events = [event async for event in servicer.StreamAnswer(request, None)]
    assert [event.seq for event in events] == [0, 1, 2, 3, 4]
    assert len({event.answer_id for event in events}) == 1
    whole = await servicer.Answer(request, None)
    assert whole.completed.text == "č"
    assert list(whole.passages) == list(events[1].retrieved.passages)
    assert list(whole.completed.citations) == [events[3].citation]
