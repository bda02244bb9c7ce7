import asyncio
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from unit.gateway.fakes import COLLECTION, candidate, collection_record

from gannet.embedder.v1 import embedder_pb2
from gannet.gateway.v1 import search_pb2
from gannet_gateway.cache.embedder import CachedEmbedder
from gannet_gateway.cache.local import LocalTier
from gannet_gateway.cache.tiers import Tier, TieredCache
from gannet_gateway.clients import EmbeddingModel, QueryVectors
from gannet_gateway.config import GatewayConfig
from gannet_gateway.ledger.records import Collection
from gannet_gateway.names import CollectionName
from gannet_gateway.search.search import Searcher
from gannet_gateway.search.servicer import BATCH_IN_WORK_MAX, SearchServicer
from gannet_gateway.vectors.lists import Found
from gannet_gateway.vectors.retriever import Wanted
from gannet_gateway.vectors.visible import Snapshot
from gannet_service.call import Principal
from gannet_service.errors import (
    DeadlineTooShort,
    DependencyUnavailable,
    GannetError,
    InvalidInput,
    from_status,
    to_status,
)

DENSE = np.array([0.5, 0.25], np.float32)


class World:
    """One collection, an embedder, a vector store and a bucket, each of which notes what it is asked."""

    def __init__(self, *, cached: bool = True, **settings: Any) -> None:
        self.embedded: list[list[str]] = []
        self.down: GannetError | None = None
        self.charged: list[int] = []
        self.reads = 0
        self.in_work = 0
        self.in_work_most = 0
        self.hangs = False
        config = GatewayConfig(**settings)
        cache = TieredCache("results", LocalTier(bytes_max=1 << 20, ttl_s=60), None) if cached else None
        searcher = Searcher(self, self, None, config)  # pyright: ignore[reportArgumentType] - it acts as both
        self.servicer = SearchServicer(self, searcher, None, cache, config, charge=self.charge)  # pyright: ignore[reportArgumentType] - nothing is reranked

    async def collection_settings(self, name: CollectionName, _staleness_s_max: float) -> Collection:
        self.reads += 1
        return dataclasses.replace(collection_record(rerank=False), name=name)

    async def charge(self, _principal: Principal, amount: int) -> None:
        self.charged.append(amount)

    async def query(self, text: str, **_wanted: Any) -> QueryVectors:
        (found,) = await self.queries([text])
        assert isinstance(found, QueryVectors)
        return found

    async def queries(self, texts: Sequence[str], **_wanted: Any) -> list[QueryVectors | GannetError]:
        self.embedded.append(list(texts))
        if self.down is not None:
            raise self.down
        return [
            InvalidInput("text: refused") if text == "refused" else QueryVectors(dense=DENSE, sparse=None)
            for text in texts
        ]

    async def search(self, _snapshot: Snapshot, wanted: Wanted) -> list[Found]:
        self.in_work += 1
        self.in_work_most = max(self.in_work, self.in_work_most)
        for _ in range(3):  # so that whoever else may begin does
            await asyncio.sleep(0)
        if self.hangs:
            await asyncio.Event().wait()
        self.in_work -= 1
        return [Found(candidate=candidate(0, score=1.0))][: wanted.limit]

    async def ask(self, *queries: str, **options: Any) -> search_pb2.BatchSearchResponse:
        request = search_pb2.BatchSearchRequest(
            parent=str(COLLECTION), queries=queries, options=search_pb2.SearchOptions(**options)
        )
        return await self.servicer.BatchSearch(request, None)


def outcomes(reply: search_pb2.BatchSearchResponse) -> list[int | str | None]:
    """How many passages each query has, or the field or reason of its error."""
    errors = [from_status(one.error) if one.HasField("error") else None for one in reply.results]
    return [
        len(one.response.passages) if error is None else error.field or error.reason
        for one, error in zip(reply.results, errors, strict=True)
    ]


async def test_batch_gives_each_query_its_own_outcome():
    """In the order asked; a query that cannot be searched for costs the others nothing."""
    reply = await World().ask("one", "", "refused", "x" * 8193, "two", mode="SEARCH_MODE_DENSE")
    assert outcomes(reply) == [1, "queries[1]", "INVALID_INPUT", "queries[3]", 1]


async def test_batch_embeds_what_is_not_cached_at_once():
    """Each text once, and nothing for replies that are there; the collection is read once."""
    world = World()
    await world.ask("one")
    reply = await world.ask("two", "one", "three", " two ")
    assert world.embedded == [["one"], ["two", "three"]]
    assert world.reads == 2
    assert outcomes(reply) == [1, 1, 1, 1]
    tiers = [one.response.cache_hits.result for one in reply.results]
    assert tiers[1] == search_pb2.CACHE_TIER_LOCAL
    assert tiers[0] == tiers[2] == search_pb2.CACHE_TIER_MISS


@pytest.mark.parametrize("cached", [True, False])
async def test_batch_without_its_embedder_goes_on_with_words(cached: bool):  # noqa: FBT001 - drawn
    """As a search does, in HYBRID mode; in DENSE mode each query fails for itself."""
    world = World(cached=cached)
    world.down = DependencyUnavailable("down")
    hybrid = await world.ask("one", "two")
    assert [[one.stage for one in result.response.degraded] for result in hybrid.results] == [["embed"], ["embed"]]
    assert outcomes(await world.ask("one", "two", mode="SEARCH_MODE_DENSE")) == ["DEPENDENCY_UNAVAILABLE"] * 2
    assert world.embedded == [["one", "two"]] * 2


async def test_batch_of_words_asks_no_embedder():
    """SPARSE mode needs none, and no time for one is told."""
    world = World()
    reply = await world.ask("one", "two", mode="SEARCH_MODE_SPARSE")
    assert (world.embedded, reply.embed_us, outcomes(reply)) == ([], 0, [1, 1])


async def test_batch_is_charged_for_every_query_but_the_one_admitted():
    """Whatever becomes of them."""
    world = World()
    await world.ask("one")
    await world.ask("one", "", "two")
    assert world.charged == [0, 2]


async def test_batch_searches_a_few_at_once():
    """It holds one place among the tenants' searches."""
    world = World()
    await world.ask(*(f"query {number}" for number in range(20)))
    assert world.in_work_most == BATCH_IN_WORK_MAX


async def test_batch_longer_than_its_passages_are_kept_is_refused():
    """All of its searches read the generation that was the latest when it began."""
    world = World(collect_delay_s=0.01)
    world.hangs = True
    with pytest.raises(DeadlineTooShort) as caught:
        await world.ask("one", "two")
    assert caught.value.reason == "SNAPSHOT_EXPIRED"


@pytest.mark.parametrize(
    "queries, options, field, problem",
    [
        (0, {}, "queries", "queries: 0; the limits are 1 to 32"),
        (33, {}, "queries", "queries: 33; the limits are 1 to 32"),
        (11, {"top_k": 91}, "options.top_k", "options.top_k: 91 for each of 11 queries; a batch may ask for 1000"),
        (11, {"neighbours": 1}, "options.top_k", "options.top_k: 10 for each of 11 queries; a batch may ask for 100"),
        (2, {"mode": 9}, "options.mode", "options.mode: 9 is not a SearchMode"),
        (2, {"top_k": 201, "diversity": {}}, "options.diversity", "options.diversity: 201 passages wanted"),
    ],
)
async def test_batch_that_is_wrong_for_all_is_refused_as_a_call(
    queries: int, options: dict[str, Any], field: str, problem: str
):
    """The field and its limit are named, and nothing is searched for."""
    world = World()
    with pytest.raises(InvalidInput) as caught:
        await world.ask(*["q"] * queries, **options)
    assert caught.value.field == field
    assert caught.value.message.startswith(problem)
    assert world.embedded == []


async def test_batch_at_its_limits_is_answered():
    """32 queries; 1,000 passages."""
    assert outcomes(await World().ask(*["q"] * 32, top_k=31)) == [1] * 32
    assert outcomes(await World().ask(*["q"] * 10, top_k=100)) == [1] * 10


async def test_queries_that_are_cached_are_not_sent_again(monkeypatch: pytest.MonkeyPatch):
    """One request, of no more texts than the embedder takes; an error is given back in its place, and not kept."""
    sent: list[list[str]] = []

    async def reply(method: Any, request: Any, **_options: Any) -> Any:
        del method
        sent.append(list(request.texts))
        results = [embedder_pb2.EmbedResult() for _ in request.texts]
        for text, result in zip(request.texts, results, strict=True):
            if text == "bad":
                result.error.CopyFrom(to_status(InvalidInput("text: bad")))
            else:
                result.dense.dim, result.dense.data = 1, np.array([len(text)], "<f4").tobytes()
        return embedder_pb2.EmbedResponse(results=results)

    async def model(_self: Any) -> EmbeddingModel:
        return EmbeddingModel(model="m", digest="d", dim=1, batch_texts_max=2, languages=("en",))

    monkeypatch.setattr("gannet_service.clients.unary", reply)
    monkeypatch.setattr(CachedEmbedder, "model", model)
    cache = TieredCache("embeddings", LocalTier(bytes_max=1 << 20, ttl_s=60), None)
    embedder = CachedEmbedder("127.0.0.1:1", cache, timeout_s=1)
    await embedder.query("a", language="en", dense=True, sparse=False)
    texts = ["bbb", "a", "bad", "cc", " bbb"]
    found = await embedder.queries(texts, language="en", dense=True, sparse=False)
    assert sent == [["a"], ["bbb", "bad"], ["cc"]]
    assert [None if isinstance(one, GannetError) else (one.dense, one.tier) for one in found] == [
        ([3.0], Tier.COMPUTED),
        ([1.0], Tier.LOCAL),
        None,
        ([2.0], Tier.COMPUTED),
        ([3.0], Tier.COMPUTED),
    ]
    await embedder.queries(texts, language="en", dense=True, sparse=False)
    assert sent[3:] == [["bad"]]
    await embedder.channel.close()
