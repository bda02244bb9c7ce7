import asyncio
import dataclasses
from typing import Any

import pytest
from google.protobuf import json_format
from unit.gateway.fakes import COLLECTION, candidate, collection_record

from gannet.gateway.v1 import search_pb2
from gannet_gateway.cache.local import LocalTier
from gannet_gateway.cache.tiers import Tier, TieredCache
from gannet_gateway.config import GatewayConfig
from gannet_gateway.ledger.records import Collection
from gannet_gateway.names import CollectionName
from gannet_gateway.search import servicer
from gannet_gateway.search.query import Degradation, Mode, MultiQuery, Passage, Query, Result, Timings
from gannet_gateway.search.servicer import SearchServicer
from gannet_service import call
from gannet_service.errors import DependencyUnavailable, InvalidInput, PermissionDenied


class World:
    """A collection, a search over it, and a reranker: each can be changed between two calls."""

    def __init__(self, **settings: Any) -> None:
        self.collection = collection_record()
        self.searched: list[tuple[CollectionName, int, Query]] = []
        self.passages = 2
        self.degraded: tuple[Degradation, ...] = ()
        self.digest: str | None = "r1"
        self.writes: str | None = "w1"
        cache = TieredCache("results", LocalTier(bytes_max=1 << 20, ttl_s=60), None)
        self.servicer = SearchServicer(self, self, self, cache, GatewayConfig(**settings), charge=self.charge)  # pyright: ignore[reportArgumentType] - it acts as all three

    async def collection_settings(self, name: CollectionName, staleness_s_max: float) -> Collection:
        self.staleness_s_max = staleness_s_max
        return dataclasses.replace(self.collection, name=name)

    async def charge(self, principal: call.Principal, amount: int) -> None:
        raise AssertionError(f"{principal.tenant} is charged {amount} more")

    async def search(self, collection: Collection, query: Query, embedding: None = None) -> Result:
        del embedding
        self.searched.append((collection.name, collection.generation, query))
        return Result(
            mode=Mode.HYBRID,
            passages=tuple(Passage(candidate=candidate(at), final=1.0 / (at + 1)) for at in range(self.passages)),
            generation=collection.generation,
            degraded=self.degraded,
            embedding=Tier.SHARED,
            timings=Timings(embed_us=10_000_000, search_us=0, rerank_us=0, total_us=10_000_000),
        )

    async def writer(self, wanted: MultiQuery) -> str:
        assert wanted.count == 2
        if self.writes is None:
            raise DependencyUnavailable("generator: down")
        return self.writes

    async def model_digest(self) -> str:
        if self.digest is None:
            raise DependencyUnavailable("reranker: down")
        return self.digest

    async def ask(self, query: str = "q", **options: Any) -> search_pb2.SearchResponse:
        request = search_pb2.SearchRequest(
            parent=str(COLLECTION), query=query, options=search_pb2.SearchOptions(**options)
        )
        reply = await self.servicer.Search(request, None)
        return search_pb2.SearchResponse.FromString(reply) if isinstance(reply, bytes) else reply


def stale(accepted: str | None) -> search_pb2.SearchRequest:
    """A request whose max_staleness is given in JSON's form."""
    fields = {} if accepted is None else {"maxStaleness": accepted}
    return json_format.ParseDict({"parent": str(COLLECTION), "query": "q", **fields}, search_pb2.SearchRequest())


async def test_search_again_is_answered_from_the_cache_with_timings_of_its_own():
    """The same passages, and not the seconds that the first caller waited."""
    world = World()
    first, second = await world.ask("q"), await world.ask(" q ")
    assert len(world.searched) == 1
    assert (second.passages, second.generation) == (first.passages, first.generation)
    assert first.timings.embed_us == 10_000_000
    assert (second.timings.embed_us, second.timings.search_us) == (0, 0)


async def test_search_says_where_its_reply_came_from():
    """A computed reply says so, with where the vector came from; a cached one has no vector to speak of."""
    world = World()
    first, second = await world.ask(), await world.ask()
    assert first.cache_hits == search_pb2.CacheHits(result="CACHE_TIER_MISS", embedding="CACHE_TIER_SHARED")
    assert second.cache_hits == search_pb2.CacheHits(result="CACHE_TIER_LOCAL")


async def test_search_that_was_asked_by_another_credential_is_checked_anew():
    """What was understood of one caller's request is never taken for another's."""
    world = World()
    await world.ask()
    principal = dataclasses.replace(call.principal(), tenant="other")
    call.set_current(call.Call(method="m", request_id="r", deadline=None, principal=principal))
    with pytest.raises(PermissionDenied):
        await world.ask()


@pytest.mark.parametrize("given, understood", [(None, 0.0), ("0s", 0.0), ("1.5s", 1.5), ("60s", 60.0)])
async def test_search_takes_a_generation_as_old_as_its_caller_accepts(given: str | None, understood: float):
    """The latest, unless the caller says otherwise."""
    world = World()
    await world.servicer.Search(stale(given), None)
    assert world.staleness_s_max == understood


@pytest.mark.parametrize("given", ["-1s", "60.1s"])
async def test_search_of_a_staleness_out_of_bounds_is_refused(given: str):
    """By its field."""
    with pytest.raises(InvalidInput) as caught:
        await World().servicer.Search(stale(given), None)
    assert caught.value.field == "max_staleness"


async def test_search_after_its_collection_changed_follows_the_new_settings():
    """A request that is known by heart is still a request to the collection as it is now."""
    world = World()
    await world.ask()
    world.collection = dataclasses.replace(world.collection, rerank=False)
    await world.ask()
    assert [query.rerank is None for _, _, query in world.searched] == [False, True]


async def test_search_after_a_publish_is_made_anew():
    """A reply of another generation is never a hit."""
    world = World()
    assert (await world.ask()).generation == 1
    world.collection = dataclasses.replace(world.collection, generation=2)
    assert (await world.ask()).generation == 2
    assert [generation for _, generation, _ in world.searched] == [1, 2]


async def test_search_that_found_nothing_is_cached():
    """Nothing is a result."""
    world = World()
    world.passages = 0
    await world.ask()
    assert not (await world.ask()).passages
    assert len(world.searched) == 1


@pytest.mark.parametrize(
    "server, collection, searches",
    [(True, None, 1), (True, True, 1), (True, False, 2), (False, None, 2), (False, True, 1), (False, False, 2)],
)
async def test_search_is_cached_as_its_collection_says(server: bool, collection: bool | None, searches: int):  # noqa: FBT001
    """Where the collection says nothing, as the server says."""
    world = World(cache_results=server)
    world.collection = dataclasses.replace(world.collection, cache_results=collection)
    for _ in range(2):
        assert len((await world.ask()).passages) == 2
    assert len(world.searched) == searches


async def test_search_that_was_degraded_is_not_cached():
    """The next caller gets the full result."""
    world = World()
    world.degraded = (Degradation(stage="rerank", reason="UNAVAILABLE"),)
    assert (await world.ask()).degraded
    world.degraded = ()
    assert not (await world.ask()).degraded
    assert len(world.searched) == 2


@pytest.mark.parametrize("options", [{"top_k": 3}, {"mode": "SEARCH_MODE_DENSE"}, {"rerank": {"weight": 0.5}}], ids=str)
async def test_search_with_other_options_is_made_anew(options: dict[str, Any]):
    """A reply belongs to its options."""
    world = World()
    await world.ask()
    await world.ask(**options)
    assert len(world.searched) == 2


async def test_search_of_another_tenant_is_made_anew():
    """One tenant's reply never reaches another."""
    world = World()
    await world.ask()
    request = search_pb2.SearchRequest(parent="tenants/-/collections/docs", query="q")
    principal = call.principal()
    call.set_current(
        call.Call(method="m", request_id="r", deadline=None, principal=dataclasses.replace(principal, tenant="acme2"))
    )
    await world.servicer.Search(request, None)
    assert [name.tenant for name, _, _ in world.searched] == ["acme", "acme2"]


async def test_search_by_another_reranker_is_made_anew():
    """The order is the cross-encoder's."""
    world = World()
    await world.ask()
    world.digest = "r2"
    await world.ask()
    assert len(world.searched) == 2


async def test_search_whose_query_another_model_phrases_is_made_anew():
    """A reply names the model that wrote the phrasings; without one to name it is neither cached nor refused."""
    world = World()
    asked = {"multi_query": {"queries": 2}}
    for world.writes in ("w1", "w1", "w2", None, None):
        await world.ask(**asked)
    assert len(world.searched) == 4
    await world.ask()
    assert len(world.searched) == 5


async def test_search_is_made_anew_when_the_time_of_its_reply_is_over(monkeypatch: pytest.MonkeyPatch):
    """Also where the request is known by heart."""
    world, windows = World(), iter([0, 0, 1, 1, 2])
    monkeypatch.setattr(servicer, "cache_window", lambda _collection: next(windows))
    searched: list[int] = []
    for _ in range(5):
        await world.ask()
        searched.append(len(world.searched))
    assert searched == [1, 1, 2, 2, 3]


async def test_search_without_a_reranker_to_name_is_neither_cached_nor_refused():
    """What cannot be keyed is not kept."""
    world = World()
    world.digest = None
    await world.ask()
    await world.ask()
    assert len(world.searched) == 2


async def test_searches_at_once_are_one_search():
    """Every caller has a whole reply."""
    world = World()
    replies = await asyncio.gather(*(world.ask() for _ in range(20)))
    assert len(world.searched) == 1
    assert all(len(reply.passages) == 2 for reply in replies)
