"""Other phrasings of a query: gateway, generator server and upstream, each over its socket."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import pytest
from fakes.openai_server import DONE, OpenAiServer, Reply, chunk, refusal, serving, usage
from integration.conftest import StartService
from integration.gateway.conftest import KEY, Stack
from integration.gateway.stack import Client
from integration.gateway.stack import refusal as refusal_of

from gannet.gateway.v1 import search_pb2
from gannet_service import errors

CARS = "tenants/-/collections/cars"
TEXTS = {
    "car.txt": "The automobile was towed away.",
    "tree.txt": "A willow stood at the river.",
    "sea.txt": "A vehicle for the sea is a ship.",
}
WORDS = {"mode": search_pb2.SEARCH_MODE_SPARSE, "rerank": search_pb2.RerankOptions(enabled=False)}
MISS, LOCAL = search_pb2.CACHE_TIER_MISS, search_pb2.CACHE_TIER_LOCAL


@pytest.fixture
async def upstream() -> AsyncIterator[OpenAiServer]:
    """What the generator server writes through."""
    async with serving() as server:
        yield server


@pytest.fixture
async def cars(
    upstream: OpenAiServer,
    start_service: StartService,
    start_gateway: Callable[..., Stack],
    connect: Callable[[Stack, str], Client],
    models_dir: str,
) -> AsyncIterator[Client]:
    """A collection at a gateway where the upstream answers whoever names no generator."""
    one = {"base_url": upstream.base_url, "model": "wader", "attempts_max": 1}
    environment = {"GANNET_GENERATOR_MODELS_DIR": models_dir, "GANNET_GENERATOR_UPSTREAMS": json.dumps([one])}
    environment["GANNET_GENERATOR_DEFAULT_GENERATOR"] = "upstream"
    generator = start_service("gannet_generator", environment)
    stack = await asyncio.to_thread(start_gateway, generator_target=generator.address)  # it has a loop of its own
    client = connect(stack, KEY)
    await client.create("cars")
    await client.upload(TEXTS.items(), CARS)
    yield client
    for service in (stack.gateway, stack.edge, generator):
        service.stop()


def found(reply: search_pb2.SearchResponse) -> list[str]:
    """Ids of the documents."""
    return [passage.document.rpartition("/")[2] for passage in reply.passages]


async def test_search_finds_what_an_upstreams_phrasings_find(cars: Client, upstream: OpenAiServer):
    """The words of the query are in no document; a model that fails costs the phrasings, and no reply without them is kept."""
    query = "sedan"
    upstream.replies = [refusal(500, "broken")]
    for _ in range(2):
        degraded = await cars.search(query, CARS, multi_query={}, **WORDS)
        assert found(degraded) == []
        assert [(one.stage, one.reason[:8]) for one in degraded.degraded] == [("expand", "UPSTREAM")]
        assert degraded.cache_hits.result == MISS

    upstream.replies = [
        Reply(steps=[chunk("1. automobile\n2. motor vehicle"), chunk(finish="stop"), usage(30, 8), DONE])
    ]
    reply = await cars.search(query, CARS, multi_query={}, **WORDS)
    assert (sorted(found(reply)), list(reply.degraded)) == (["car.txt", "sea.txt"], [])
    assert all(passage.scores.HasField("fused") for passage in reply.passages)
    assert reply.timings.expand_us > 0
    asked = len(upstream.asked)
    assert query in json.dumps(upstream.asked[-1].body["messages"])

    again = await cars.search(query, CARS, multi_query={}, **WORDS)
    assert (again.cache_hits.result, again.passages) == (LOCAL, reply.passages)
    explained = await cars.search(query, CARS, multi_query={}, explain=True, mode=search_pb2.SEARCH_MODE_HYBRID)
    assert "car.txt" in found(explained)
    assert len(upstream.asked) == asked

    plain = await cars.search(query, CARS, **WORDS)
    assert found(plain) == []
    unwilling = await refusal_of(cars.search(query, CARS, multi_query={"generator": "extractive"}, **WORDS))
    assert (type(unwilling), unwilling.field) == (errors.InvalidInput, "options.multi_query.generator")
