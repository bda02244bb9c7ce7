"""Other phrasings of a query: how they are asked for, read, searched and done without."""

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.gateway.answering import Behaviour, FakeGenerator
from unit.gateway.fakes import collection_record
from unit.gateway.test_search import FakeRetriever

from gannet.gateway.v1.search_pb2 import SearchOptions
from gannet_gateway.cache.local import LocalTier
from gannet_gateway.cache.tiers import TieredCache
from gannet_gateway.clients import Done, QueryVectors, Said
from gannet_gateway.config import GatewayConfig
from gannet_gateway.search import wire
from gannet_gateway.search.expansion import PHRASING_BYTES_MAX, Expander, NotAWriter, phrasings_in
from gannet_gateway.search.query import Degradation, Mode, MultiQuery, Options, Query
from gannet_gateway.search.search import Searcher
from gannet_gateway.vectors.lists import Method
from gannet_gateway.vectors.retriever import Phrasing
from gannet_service import call
from gannet_service.call import Call, Principal
from gannet_service.errors import (
    DeadlineTooShort,
    DependencyUnavailable,
    GannetError,
    InvalidInput,
    Overloaded,
)

DONE = Done(reason="FINISH_REASON_STOP", prompt_tokens=20, completion_tokens=9)
RECORD = collection_record(rerank=False)


def writes(*pieces: Any) -> Behaviour:
    """A generator that writes free text; see Behaviour for what "hang" and "silence" do."""
    said = [
        Said(text=piece) if isinstance(piece, str) and piece not in ("hang", "silence") else piece for piece in pieces
    ]
    return Behaviour(said, free_text=True)


QUOTES = Behaviour([Said(text="a quote"), DONE])


class World:
    """An embedder, a vector store and generators, each of which notes what it is asked."""

    def __init__(self, generators: dict[str, Behaviour], **settings: Any) -> None:
        self.generator = FakeGenerator(generators)
        self.charged: list[tuple[str, int]] = []
        self.embedded: list[str] = []
        self.down: GannetError | None = None
        self.refused: str | None = None
        config = GatewayConfig(**settings)
        cache = TieredCache("phrasings", LocalTier(bytes_max=1 << 20, ttl_s=60), None)
        self.expander = Expander(self.generator, cache, config, self.charge)  # pyright: ignore[reportArgumentType] - acts as one
        self.retriever = FakeRetriever(3)
        self.searcher = Searcher(self, self.retriever, None, config, self.expander)  # pyright: ignore[reportArgumentType] - it acts as the embedder

    async def charge(self, tenant: str, tokens: int) -> None:
        self.charged.append((tenant, tokens))

    async def query(self, text: str, **_options: object) -> QueryVectors:
        (found,) = await self.queries([text])
        assert isinstance(found, QueryVectors)
        return found

    async def queries(self, texts: list[str], **_options: object) -> list[QueryVectors | GannetError]:
        if self.down is not None:
            raise self.down
        self.embedded += texts
        return [
            InvalidInput("long")
            if text == self.refused
            else QueryVectors(dense=np.array([len(text), 1], np.float32), sparse=None)
            for text in texts
        ]

    async def search(self, text: str = "car", **options: Any) -> Any:
        """One search with other phrasings."""
        wanted = Options(**{"multi_query": MultiQuery(), **options})
        record = collection_record(rerank=False, generators=("quotes", "writes"))
        query = Query.of(text, wanted, record, GatewayConfig(), top_k_default=10)
        return await self.searcher.search(record, query)

    def phrasings(self) -> tuple[Phrasing, ...]:
        """What the vector store was asked for beside the query."""
        return self.retriever.asked[-1].phrasings


# ---- what a model writes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply, phrasings",
    [
        ("automobile\nmotor vehicle", ["automobile", "motor vehicle"]),
        ("1. automobile\n2) motor  vehicle\n- „vozilo”\n", ["automobile", "motor vehicle", "vozilo"]),
        ('Here are other phrasings:\n\n* "automobile"', ["automobile"]),
        ("Car\n car \nAUTO\nauto", ["AUTO"]),
        ("a\nb\nc\nd", ["a", "b", "c"]),
        ("...\n---\n", []),
        ("x" * (PHRASING_BYTES_MAX + 1), []),
        ("", []),
        ("2024 cars\n3.5 litre engines", ["2024 cars", "3.5 litre engines"]),
    ],
)
def test_phrasings_in_a_reply_are_its_lines(reply: str, phrasings: list[str]):
    """Without list marks, quotes, headings, repetitions and the query itself; no more than were wanted."""
    assert phrasings_in(reply, "car", 3) == phrasings


@given(st.text(max_size=300), st.integers(1, 3))
def test_phrasings_in_any_reply_can_be_searched_for(reply: str, count: int):
    """Whatever a model writes: bounded in number and length, not empty, not the query."""
    found = phrasings_in(reply, "car", count)
    assert len(found) <= count
    for one in found:
        assert one.strip() == one != "car"
        assert 0 < len(one.encode()) <= PHRASING_BYTES_MAX


# ---- searches -----------------------------------------------------------------------------------------------------


async def test_search_with_phrasings_looks_for_each_by_words_and_vector():
    """They are asked for once, embedded together, weighed as the caller says, and paid for by the tenant."""
    generator = writes("automobile\n", "motor vehicle", DONE)
    world = World({"quotes": QUOTES, "writes": generator})
    result = await world.search(multi_query=MultiQuery(weight=0.25))
    assert world.embedded == ["car", "automobile", "motor vehicle"]
    phrasings = world.phrasings()
    assert [one.dense.tolist() for one in phrasings if one.dense is not None] == [[10.0, 1.0], [13.0, 1.0]]
    assert [len(one.sparse.indices) for one in phrasings if one.sparse is not None] == [1, 2]
    assert [one.weight for one in phrasings] == [0.25, 0.25]
    assert (result.degraded, result.mode, world.charged) == ((), Mode.HYBRID, [("acme", 29)])
    assert generator.asked is not None
    assert (generator.asked.generator, generator.asked.sampling.temperature) == ("writes", 0.0)
    assert "car" in generator.asked.messages[-1].content


async def test_search_again_takes_the_phrasings_that_were_written_before():
    """Whatever has been published since; another tenant's, another query's and another number are not the same."""
    generator = writes("automobile", DONE)
    world = World({"writes": generator})
    for _ in range(2):
        await world.search()
        assert len(world.phrasings()) == 1
    assert generator.opened == 1
    await world.search("bus")
    await world.search(multi_query=MultiQuery(count=2))
    other = Principal(tenant="other", credential="k")
    call.set_current(Call(method="m", request_id="r", deadline=None, principal=other))
    await world.search()
    assert generator.opened == 4


async def test_searches_at_once_ask_for_phrasings_once():
    """One generation serves all who ask for the same."""
    generator = writes("silence", "automobile", DONE)
    world = World({"writes": generator})
    await asyncio.gather(*(world.search() for _ in range(8)))
    assert (generator.opened, len(world.charged)) == (1, 1)


@pytest.mark.parametrize("mode, kinds", [(Mode.DENSE, (True, False)), (Mode.SPARSE, (False, True))], ids=str)
async def test_search_of_one_stage_looks_for_phrasings_in_that_stage(mode: Mode, kinds: tuple[bool, bool]):
    """Its lists are fused, so the scores are a fusion's."""
    world = World({"writes": writes("automobile", DONE)})
    result = await world.search(mode=mode)
    (phrasing,) = world.phrasings()
    assert (phrasing.dense is not None, phrasing.sparse is not None) == kinds
    assert result.mode is Mode.HYBRID


# ---- what may go wrong --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pieces, reason",
    [
        ((DependencyUnavailable("down"),), "DEPENDENCY_UNAVAILABLE"),
        ((Overloaded("full", reason="QUEUE_FULL"),), "QUEUE_FULL"),
        ((InvalidInput("too long for its context"),), "INVALID_INPUT"),
        (
            (Said(text="automobile"), DependencyUnavailable("cut off", reason="UPSTREAM_UNREACHABLE")),
            "UPSTREAM_UNREACHABLE",
        ),
        ((DONE,), "NO_PHRASINGS"),
        (("car\n", DONE), "NO_PHRASINGS"),
    ],
)
async def test_search_whose_generator_fails_goes_on_with_the_query(pieces: Any, reason: str):
    """It says so, nothing of it is kept, and the next search asks again."""
    generator = writes(*pieces)
    world = World({"writes": generator})
    for _ in range(2):
        result = await world.search()
        assert result.degraded == (Degradation(stage="expand", reason=reason),)
        assert (world.phrasings(), len(result.passages)) == ((), 3)
    assert (generator.opened, generator.closed) == (2, 2)


async def test_search_whose_generator_hangs_goes_on_when_its_share_is_over():
    """The share is of the caller's deadline, and the generator is told to stop."""
    generator = writes("hang")
    world = World({"writes": generator}, expand_timeout_s=0.05)
    result = await world.search()
    assert result.degraded == (Degradation(stage="expand", reason="DEADLINE"),)
    await asyncio.sleep(0)
    assert (generator.closed, len(result.passages)) == (1, 3)


async def test_search_whose_deadline_has_passed_asks_no_generator():
    """The caller is told that it was too short."""
    generator = writes("automobile", DONE)
    world = World({"writes": generator})
    call.set_current(Call(method="m", request_id="r", deadline=0.0, principal=call.principal()))
    with pytest.raises(DeadlineTooShort):
        await world.search()
    assert generator.opened == 0


async def test_search_whose_generator_never_ends_reads_so_much_and_no_more():
    """What was written by then is used."""
    generator = writes()
    taken = 0

    def endless() -> Iterator[Said]:
        nonlocal taken
        for taken in range(10_000):
            yield Said(text="x" * 100 if taken else "automobile\n")

    generator.pieces = endless()  # pyright: ignore[reportAttributeAccessIssue] - it is iterated once
    world = World({"writes": generator})
    result = await world.search()
    assert (len(world.phrasings()), result.degraded, generator.closed) == (1, (), 1)
    assert 10 < taken < 100


@pytest.mark.parametrize("generators", [("quotes",), ("gone",)], ids=str)
async def test_search_where_nobody_writes_goes_on_and_says_so(generators: tuple[str, ...]):
    """A generator that quotes its sources has nothing to say of a query alone; others than the collection's are not asked."""
    world = World({"quotes": QUOTES, "writes": writes("automobile", DONE)})
    query = Query.of(
        "car",
        Options(multi_query=MultiQuery()),
        collection_record(rerank=False, generators=generators),
        GatewayConfig(),
        top_k_default=10,
    )
    result = await world.searcher.search(RECORD, query)
    assert result.degraded == (Degradation(stage="expand", reason="NO_WRITING_GENERATOR"),)
    assert world.phrasings() == ()


@pytest.mark.parametrize("name, problem", [("quotes", "phrases nothing"), ("gone", "there is no generator 'gone'")])
async def test_search_by_a_named_generator_that_cannot_write_is_refused(name: str, problem: str):
    """By the option's name: who names one means that one."""
    world = World({"quotes": QUOTES, "writes": writes("automobile", DONE)})
    with pytest.raises(NotAWriter, match=problem) as caught:
        await world.search(multi_query=MultiQuery(generators=(name,), named=True))
    assert caught.value.field == "options.multi_query.generator"


async def test_search_without_an_embedder_looks_for_the_words_of_phrasings():
    """What is left of a hybrid search is BM25, of the phrasings as of the query."""
    world = World({"writes": writes("automobile", DONE)})
    world.down = DependencyUnavailable("embedder: down")
    result = await world.search()
    (phrasing,) = world.phrasings()
    assert (phrasing.dense, result.degraded) == (None, (Degradation(stage="embed", reason="UNAVAILABLE"),))


async def test_search_with_a_phrasing_that_is_not_embedded_says_so():
    """Its words are looked for; the others are whole."""
    world = World({"writes": writes("automobile\nmotor vehicle", DONE)})
    world.refused = "automobile"
    result = await world.search()
    assert [one.dense is not None for one in world.phrasings()] == [False, True]
    assert result.degraded == (Degradation(stage="expand", reason="INVALID_INPUT"),)


async def test_writer_is_named_with_its_model_and_digest():
    """For the key of the cached reply; empty where nobody writes."""
    world = World({"quotes": QUOTES, "writes": writes("automobile", DONE)})
    assert await world.searcher.writer(MultiQuery(generators=("quotes", "writes"))) == "writes m-writes d-writes"
    assert await world.searcher.writer(MultiQuery(generators=("quotes",))) == ""


# ---- what a caller may say ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, field",
    [
        ({"queries": 4}, "options.multi_query.queries"),
        ({"weight": 0}, "options.multi_query.weight"),
        ({"weight": float("nan")}, "options.multi_query.weight"),
        ({"generator": "no name"}, "options.multi_query.generator"),
    ],
)
def test_multi_query_out_of_limits_is_refused(options: dict[str, Any], field: str):
    """Every option names itself."""
    with pytest.raises(InvalidInput) as caught:
        wire.to_options(SearchOptions(multi_query=options), prefix="options", top_k_max=10, filter_bytes_max=100)
    assert caught.value.field == field


def test_multi_query_with_relative_scores_is_refused():
    """Lists of different queries have no common scale."""
    with pytest.raises(InvalidInput) as caught:
        Query.of(
            "q",
            Options(multi_query=MultiQuery(), fusion_method=Method.RELATIVE_SCORE),
            RECORD,
            GatewayConfig(),
            top_k_default=10,
        )
    assert caught.value.field == "options.multi_query"


def test_multi_query_asks_the_generators_that_answer():
    """The caller's, else the collection's, else the server's, else the first in service."""
    named = wire.to_options(
        SearchOptions(multi_query={"generator": "mine"}), prefix="o", top_k_max=10, filter_bytes_max=100
    )
    plain = wire.to_options(SearchOptions(multi_query={}), prefix="o", top_k_max=10, filter_bytes_max=100)

    def asked(options: Options, own: tuple[str, ...], **settings: Any) -> Any:
        record = collection_record(generators=own)
        query = Query.of("q", options, record, GatewayConfig(**settings), top_k_default=10)
        return query.multi_query and query.multi_query.generators

    assert asked(named, ("own",)) == ("mine",)
    assert asked(plain, ("own",), generators=("servers",)) == ("own",)
    assert asked(plain, (), generators=("servers",)) == ("servers",)
    assert asked(plain, ()) == ("",)
    assert asked(Options(), ("own",)) is None
