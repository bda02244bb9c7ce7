"""Every invariant of the answer stream, over generators that do whatever they like."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.gateway.answering import (
    LENGTH,
    SOURCE_BYTES,
    STOP,
    SUPPORTED,
    UNSUPPORTED,
    Behaviour,
    FakeGenerator,
    Search,
    answerer,
    check_invariants,
    done,
    events_of,
    question,
)

from gannet.gateway.v1 import answer_pb2
from gannet_gateway.answers import wire
from gannet_gateway.answers.events import Citation, Completed, Delta, Event, Heartbeat, Retrieved, Started
from gannet_gateway.answers.pieces import NO_ANSWER
from gannet_gateway.answers.questions import Questions
from gannet_gateway.answers.resume import Keeping, ResumableAnswers
from gannet_gateway.answers.servicer import AnswerServicer
from gannet_gateway.answers.verification import Verifier
from gannet_gateway.cache.prompts import PromptReader
from gannet_gateway.cache.reader import CollectionReader
from gannet_gateway.clients import Cited, Said, Verdict
from gannet_gateway.config import GatewayConfig
from gannet_gateway.ledger.conversations import Bounds, Conversations
from gannet_gateway.ledger.engine import Database
from gannet_gateway.ledger.ledger import Ledger
from gannet_gateway.ledger.prompts import Prompts
from gannet_gateway.search.query import Degradation, Result
from gannet_service.errors import DeadlineTooShort, DependencyUnavailable, GannetError, InvalidInput, Overloaded


async def answer(
    behaviour: Any, search: Any = None, *, heartbeat_s: float = 60.0, take: int | None = None
) -> tuple[list[Event], GannetError | None]:
    """One answer by one generator that quotes; see `events_of`."""
    made = answerer(FakeGenerator({"g": behaviour}), search, heartbeat_s=heartbeat_s)
    return await events_of(made, take=take)


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


FREE_TEXT = st.lists(
    st.sampled_from(
        [
            "It dives. ",
            "No",
            " [1]",
            "[",
            "2",
            "]",
            "[1, 2]",
            "[9]",
            " ",
            "`a[1]` ",
            "NO_ANSWER",
            "Čaj! ",
            "日本。",
            "\n",
        ]
    )
    | st.text("a[1] .😀", max_size=6)
    | ERRORS
    | st.just("silence"),
    max_size=12,
).map(
    lambda pieces: [
        piece if isinstance(piece, Exception) or piece == "silence" else Said(text=piece) for piece in pieces
    ]
)
CHAINS = st.lists(
    st.builds(Behaviour, PIECES)
    | st.builds(
        lambda pieces, last: Behaviour([*pieces, *last], free_text=True),
        FREE_TEXT,
        st.sampled_from([[done()], [done(LENGTH)], []]),
    ),
    min_size=1,
    max_size=3,
)
VERDICTS = st.sampled_from([SUPPORTED, UNSUPPORTED, DependencyUnavailable("gone")]) | st.builds(
    lambda spans: Verdict(score=0.7, supported=True, spans=tuple((*span, 0.7) for span in spans)),
    st.lists(SPANS, max_size=2),
)


@given(CHAINS, VERDICTS, st.none() | st.integers(1, 8))
def test_stream_over_any_chain_keeps_every_invariant(chain: list[Behaviour], verdict: Any, take: int | None):
    """Quoting and free generators, faults at any point, marks in pieces, any verdict, a client that leaves: what is opened is closed."""
    names = [f"g{place}" for place in range(len(chain))]
    generator = FakeGenerator(dict(zip(names, chain, strict=True)), verdict)
    asked = question(generators=tuple(names))

    async def run() -> tuple[list[Event], GannetError | None]:
        result = await events_of(answerer(generator), asked, take=take)
        # Here, and not when the loop has ended: a loop closes what everybody else forgot.
        assert [one.opened for one in chain] == [one.closed for one in chain]
        return result

    events, error = asyncio.run(run())
    check_invariants(events, error, left=len(events) == take)
    # Whoever spoke is the last who was asked.
    spoken = any(isinstance(event, Delta | Citation) for event in events)
    assert not spoken or sum(one.opened for one in chain) >= 1
    completed = [event for event in events if isinstance(event, Completed)]
    if completed and isinstance(verdict, Verdict):
        covered = {(one.start_byte, one.end_byte) for one in completed[0].citations}
        assert covered.isdisjoint(completed[0].unsupported)


@given(PIECES)
def test_stream_over_any_generator_keeps_every_invariant(pieces: list[Any]):
    """Faults, broken offsets, empty deltas, missing and repeated last words: an answer, or an error, never half of each."""
    behaviour = Behaviour(pieces)
    events, error = asyncio.run(answer(behaviour))
    check_invariants(events, error, left=False)
    assert behaviour.opened == behaviour.closed


@given(PIECES, st.integers(1, 8))
def test_stream_left_at_any_event_closes_the_generator(pieces: list[Any], take: int):
    """A client that leaves stops the generator before its next step."""
    behaviour = Behaviour(pieces)
    events, error = asyncio.run(answer(behaviour, take=take))
    check_invariants(events, error, left=len(events) == take)
    assert behaviour.opened == behaviour.closed


@given(PIECES)
def test_stream_with_heartbeats_keeps_every_invariant(pieces: list[Any]):
    """Heartbeats between any two events change nothing else."""
    plain, plain_error = asyncio.run(answer(Behaviour(pieces)))
    beating, error = asyncio.run(answer(Behaviour(pieces), heartbeat_s=1e-9))
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
    assert behaviour.opened == 0


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

    class Silent(Behaviour):
        async def generate(self) -> AsyncGenerator[Any]:
            try:
                yield Said(text="a")
                await asyncio.Event().wait()
            finally:
                closed.set()

    stream = answerer(FakeGenerator({"g": Silent([])}), heartbeat_s=1e-9).stream(question())
    seen: list[Event] = []
    while sum(isinstance(event, Heartbeat) for event in seen) < 50:
        seen.append(await anext(stream))
    assert [type(event) for event in seen if not isinstance(event, Heartbeat)] == [Started, Retrieved, Delta]
    await stream.aclose()
    assert closed.is_set()


async def test_stream_cancelled_in_the_middle_closes_the_generator():
    """A task that is cancelled while it waits for the generator cancels the generator."""
    entered, closed = asyncio.Event(), asyncio.Event()

    class Hanging(Behaviour):
        async def generate(self) -> AsyncGenerator[Any]:
            try:
                entered.set()
                await asyncio.Event().wait()
                yield Said(text="never")
            finally:
                closed.set()

    reading = asyncio.create_task(answer(Hanging([])))
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


@pytest.fixture
def charged() -> list[tuple[str, int]]:
    """What tenants were charged."""
    return []


@pytest.fixture
def servicer(ledger: Ledger, database: Database, charged: list[tuple[str, int]]) -> AnswerServicer:
    """The real servicer over a fake search and a fake generator."""
    pieces = [Said(text="č"), Cited(start_byte=0, end_byte=2, sources=((1, 6, 8),), score=2.5), done()]
    config = GatewayConfig()
    conversations = Conversations(database, Bounds.of(config))
    prompts = PromptReader(Prompts(database, versions_max=9).find, database.version)
    questions = Questions(CollectionReader(ledger.collection_settings), conversations, prompts, config)
    resumable = ResumableAnswers(Keeping(grace_s=0, keep_s=60, answers_max=9, bytes_max=1 << 20), None)
    generator = FakeGenerator({"g": Behaviour(pieces)})
    made = answerer(generator, conversations=conversations)
    verifier = Verifier(Search(), generator, config)

    async def charge(tenant: str, tokens: int) -> None:
        charged.append((tenant, tokens))

    return AnswerServicer(
        questions,
        made,
        cache=None,
        verifier=verifier,
        resumable=resumable,
        config=config,
        charge_tokens=charge,
    )


async def test_answer_rpcs_number_their_events_and_agree(servicer: AnswerServicer):
    """`seq` counts from 0 without gaps under one id; the unary answer holds what the stream said."""
    request = answer_pb2.AnswerRequest(parent="tenants/-/collections/docs", query="why?")
    events = [event async for event in servicer.StreamAnswer(request, None)]
    assert [event.seq for event in events] == [0, 1, 2, 3, 4]
    assert len({event.answer_id for event in events}) == 1
    whole = await servicer.Answer(request, None)
    assert whole.completed.text == "č"
    assert list(whole.passages) == list(events[1].retrieved.passages)
    assert list(whole.completed.citations) == [events[3].citation]
    assert [model.role for model in whole.started.models] == ["embedder", "generator/g"]


async def test_answer_charges_its_tenant_the_tokens_that_it_took(
    servicer: AnswerServicer, charged: list[tuple[str, int]]
):
    """Once, before its last word is said."""
    request = answer_pb2.AnswerRequest(parent="tenants/-/collections/docs", query="why?")
    async for event in servicer.StreamAnswer(request, None):
        assert bool(charged) == event.HasField("completed")
        last = event.completed
    usage = last.usage
    assert charged == [("acme", usage.tokens_read + usage.prompt_tokens + usage.completion_tokens)]
    assert charged[0][1] > 0


@pytest.mark.parametrize(
    "fields, field",
    [
        ({"generation": {"generators": ["a b"]}}, "generation.generators"),
        ({"generation": {"generators": ["a"] * 5}}, "generation.generators"),
        ({"generation": {"temperature": 2.5}}, "generation.temperature"),
        ({"generation": {"temperature": float("nan")}}, "generation.temperature"),
        ({"generation": {"top_p": 0.0}}, "generation.top_p"),
        ({"generation": {"max_tokens": 40_000}}, "generation.max_tokens"),
        ({"generation": {"stop": [""]}}, "generation.stop"),
        ({"generation": {"stop": ["x"] * 17}}, "generation.stop"),
        ({"generation": {"language": "English"}}, "generation.language"),
        ({"prompt": "None"}, "prompt"),
        ({"prompt": "a@0"}, "prompt"),
        ({"prompt": "a@1"}, "prompt"),
        ({"conversation": "x"}, "conversation"),
        ({"max_staleness": {"seconds": 61}}, "max_staleness"),
        ({"max_staleness": {"seconds": -1}}, "max_staleness"),
        ({"conversation": f"tenants/-/collections/else/conversations/{'a' * 32}"}, "conversation"),
        ({"conversation": f"tenants/-/collections/docs/conversations/{'a' * 32}"}, "name"),
    ],
)
async def test_answer_options_out_of_their_limits_are_refused(fields: Any, field: str, servicer: AnswerServicer):
    """The field is named, and nothing is generated."""
    request = answer_pb2.AnswerRequest(parent="tenants/-/collections/docs", query="why?", **fields)
    with pytest.raises(GannetError) as caught:
        await servicer.Answer(request, None)
    assert caught.value.field == field
