"""Generators that do whatever a test says, a search that finds what it says, and what must hold for every answer."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from unit.gateway.fakes import candidate, collection_record

from gannet_gateway.answers.answer import Answerer
from gannet_gateway.answers.events import Citation, Completed, Delta, Event, Heartbeat, Retrieved, Started
from gannet_gateway.answers.pieces import NO_ANSWER
from gannet_gateway.answers.prompt import BUILT_IN
from gannet_gateway.answers.question import Question
from gannet_gateway.clients import Done, Generation, GeneratorModel, Generators, Sampling, Verdict
from gannet_gateway.config import GatewayConfig
from gannet_gateway.search.query import Degradation, Mode, Passage, Query, Result, Timings
from gannet_gateway.vectors.retriever import Fusion
from gannet_service.errors import GannetError

RECORD = collection_record()
QUERY = Query(text="why?", top_k=5, mode=Mode.HYBRID, fusion=Fusion(k=60, dense_weight=1, sparse_weight=1), rerank=None)
STOP, LENGTH = "FINISH_REASON_STOP", "FINISH_REASON_LENGTH"
SOURCE = "Izvor čćž: 日本 😀."
SOURCE_BYTES = len(SOURCE.encode())
SUPPORTED = Verdict(score=0.9, supported=True, spans=((0, 6, 13, 0.9),))
UNSUPPORTED = Verdict(score=0.1, supported=False, spans=((0, 6, 13, 0.1),))


class Behaviour:
    """One generator: what it sends, and how it ends. `asked` is what it was asked last."""

    def __init__(self, pieces: Sequence[Any], *, free_text: bool = False) -> None:
        self.pieces = pieces
        self.free_text = free_text
        self.opened = 0
        self.closed = 0
        self.asked: Generation | None = None

    async def generate(self) -> AsyncGenerator[Any]:
        """Send the pieces; an exception among them is raised, "silence" lets the loop turn."""
        self.opened += 1
        try:
            for piece in self.pieces:
                if isinstance(piece, Exception):
                    raise piece
                if piece == "silence":
                    for _ in range(10):
                        await asyncio.sleep(0)
                elif piece == "hang":
                    await asyncio.Event().wait()
                else:
                    yield piece
        finally:
            self.closed += 1


class FakeGenerator:
    """A generator server: its generators by name, and one verdict for every claim, or an error."""

    def __init__(self, behaviours: Mapping[str, Behaviour], verdict: Verdict | Exception = SUPPORTED) -> None:
        self.behaviours = behaviours
        self.verdict = verdict
        self.claims: list[str] = []
        self.down: GannetError | None = None
        self.context_tokens_max = 0
        self.counted: list[str] = []

    async def generators(self) -> Generators:
        """What is in service."""
        if self.down is not None:
            raise self.down
        models = {
            name: GeneratorModel(
                name=name,
                free_text=behaviour.free_text,
                model=f"m-{name}",
                digest=f"d-{name}",
                context_tokens_max=self.context_tokens_max,
                tokens_max=0,
            )
            for name, behaviour in self.behaviours.items()
        }
        first = next(iter(models.values()))
        return Generators(by_name={**models, "": first}, claims_max=2, verify_threshold=0.5, verify_digest="v")

    async def generate(self, generation: Generation) -> AsyncGenerator[Any]:
        """As the named generator does."""
        behaviour = self.behaviours[generation.generator]
        behaviour.asked = generation
        pieces = behaviour.generate()
        try:
            async for piece in pieces:
                yield piece
        finally:
            await pieces.aclose()

    async def verify(self, claims: Sequence[str], _sources: Any, *, timeout_s: float) -> tuple[list[Verdict], int]:
        """The verdict for each."""
        assert timeout_s > 0
        assert 1 <= len(claims) <= 2
        if isinstance(self.verdict, Exception):
            raise self.verdict
        self.claims += claims
        return [self.verdict] * len(claims), 7

    async def count_tokens(self, _generator: str, texts: Sequence[str]) -> list[int]:
        """One token a character."""
        self.counted += texts
        return [len(text) for text in texts]


class Search:
    """A search that finds `count` passages."""

    def __init__(self, count: int = 2, degraded: tuple[Degradation, ...] = ()) -> None:
        passages = tuple(
            Passage(candidate=candidate(place, text=SOURCE, start_byte=100 * place), final=1.0)
            for place in range(count)
        )
        timings = Timings(embed_us=1, search_us=1, rerank_us=0, total_us=2)
        self.result = Result(mode=Mode.HYBRID, passages=passages, generation=1, degraded=degraded, timings=timings)
        self.searched: list[str] = []

    async def search(self, _collection: Any, query: Query) -> Result:
        """Always the same."""
        self.searched.append(query.text)
        return self.result


class NoConversations:
    """For questions without one."""


def question(**fields: Any) -> Question:
    """A question to the first generator, unless a test says otherwise."""
    defaults = {
        "answer_id": "a" * 32,
        "collection": RECORD,
        "query": QUERY,
        "generators": ("",),
        "template": BUILT_IN,
        "sampling": Sampling(),
    }
    return Question(**{**defaults, **fields})


def answerer(generator: Any, search: Any = None, conversations: Any = None, **settings: Any) -> Answerer:
    """An answerer over fakes; `settings` are the gateway's."""
    config = GatewayConfig(**{"heartbeat_s": 60.0, **settings})
    return Answerer(search or Search(), generator, conversations or NoConversations(), config)


async def events_of(
    made: Answerer, asked: Question | None = None, *, take: int | None = None
) -> tuple[list[Event], GannetError | None]:
    """The events of one answer and the error it ended in; after `take` events the client leaves."""
    events: list[Event] = []
    stream = made.stream(asked or question())
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


def done(reason: str = STOP) -> Done:
    """The last word."""
    return Done(reason=reason, sentences_scored=3, tokens_read=9, generator="g", model="m")


def check_invariants(events: list[Event], error: GannetError | None, *, left: bool) -> None:
    """What must hold for every answer; `left`: the client went away before its end."""
    shown = [event for event in events if not isinstance(event, Heartbeat)]
    if events:
        assert isinstance(events[0], Started)
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
                check_citation(event, text, retrieved[0].passages)
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
        for start, end in completed[0].unsupported:
            assert text[start:end].decode().strip()


def check_citation(citation: Citation, text: bytes, passages: Sequence[Passage]) -> None:
    """It lies inside what was said, and names bytes of retrieved passages."""
    assert 0 <= citation.start_byte < citation.end_byte <= len(text)
    text[citation.start_byte : citation.end_byte].decode()
    assert citation.sources
    for source in citation.sources:
        cited = passages[source.passage_index].candidate
        assert cited.start_byte <= source.start_byte < source.end_byte <= cited.end_byte
        start = cited.start_byte
        cited.text.encode()[source.start_byte - start : source.end_byte - start].decode()
