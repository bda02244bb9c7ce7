"""Settings of a collection, changed over the socket."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from integration.gateway.conftest import Stack
from integration.gateway.stack import TIMEOUT_S, Client, refusal

from gannet.gateway.v1 import collections_pb2, collections_pb2_grpc, search_pb2, search_pb2_grpc
from gannet_service import errors

NAME = "tenants/-/collections/settings"
MISS, LOCAL, UNASKED = search_pb2.CACHE_TIER_MISS, search_pb2.CACHE_TIER_LOCAL, search_pb2.CACHE_TIER_UNSPECIFIED


class Settings:
    """A collection of the test's own, with passages."""

    def __init__(self, channel: grpc.aio.Channel, client: Client) -> None:
        self._collections: Any = collections_pb2_grpc.CollectionServiceStub(channel)
        self._search: Any = search_pb2_grpc.SearchServiceStub(channel)
        self._options = {"metadata": client.metadata, "timeout": TIMEOUT_S}

    async def update(self, paths: list[str], **fields: Any) -> collections_pb2.Collection:
        """Change the settings that `paths` name."""
        request = collections_pb2.UpdateCollectionRequest(collection={"name": NAME} | fields)
        request.update_mask.paths.extend(paths)
        return await self._collections.UpdateCollection(request, **self._options)

    async def searched(self, query: str) -> int:
        """Where the reply to a search came from."""
        options = search_pb2.SearchOptions(rerank=search_pb2.RerankOptions(enabled=False))
        request = search_pb2.SearchRequest(parent=NAME, query=query, options=options)
        return (await self._search.Search(request, **self._options)).cache_hits.result

    async def delete(self) -> None:
        """Remove the collection."""
        await self._collections.DeleteCollection(collections_pb2.DeleteCollectionRequest(name=NAME), **self._options)


@pytest.fixture
async def settings(stack: Stack, client: Client) -> AsyncIterator[Settings]:
    """The collection, empty."""
    await client.create("settings")
    async with grpc.aio.insecure_channel(stack.gateway.address) as channel:
        made = Settings(channel, client)
        yield made
        await made.delete()


async def test_collection_decides_whether_its_replies_are_cached(settings: Settings):
    """From the next search on, and back to the server's default when the setting is taken away."""
    assert [await settings.searched("policy") for _ in range(2)] == [MISS, LOCAL]
    assert (await settings.update(["cache_results"], cache_results=False)).cache_results is False
    assert [await settings.searched("policy") for _ in range(2)] == [UNASKED, UNASKED]
    assert not (await settings.update(["cache_results"])).HasField("cache_results")
    assert await settings.searched("policy") in (MISS, LOCAL)


async def test_collection_decides_how_long_its_replies_are_cached(settings: Settings):
    """From the next search on: what was cached before is not asked for again; without the setting it is the server's time."""
    assert [await settings.searched("policy") for _ in range(2)] == [MISS, LOCAL]
    changed = await settings.update(["cache_ttl"], cache_ttl=Duration(seconds=86_400))
    assert (changed.cache_ttl.seconds, await settings.searched("policy")) == (86_400, MISS)
    assert await settings.searched("policy") == LOCAL
    assert not (await settings.update(["cache_ttl"])).HasField("cache_ttl")
    assert await settings.searched("policy") == LOCAL


@pytest.mark.parametrize("seconds", [-1, 0, 2_592_001])
async def test_update_of_a_time_to_live_out_of_bounds_is_refused(seconds: int, settings: Settings):
    """By the field's name."""
    refused = await refusal(settings.update(["cache_ttl"], cache_ttl=Duration(seconds=seconds)))
    assert (type(refused), refused.field) == (errors.InvalidInput, "collection.cache_ttl")


async def test_update_changes_what_the_mask_names_and_nothing_else(settings: Settings):
    """A field that is given and not named stays as it was; the etag follows the settings."""
    first = await settings.update(["rerank"], rerank=False, cache_results=False)
    assert (first.rerank, first.HasField("cache_results")) == (False, False)
    second = await settings.update(["cache_results"], cache_results=True, etag=first.etag)
    assert (second.rerank, second.cache_results) == (False, True)
    assert second.etag != first.etag


async def test_update_of_another_state_than_the_callers_is_refused(settings: Settings):
    """Nothing is changed, and the refusal names the etag."""
    first = await settings.update(["rerank"], rerank=True)
    second = await settings.update(["rerank"], rerank=False)
    refused = await refusal(settings.update(["rerank"], rerank=True, etag=first.etag))
    assert (type(refused), refused.field, refused.reason) == (errors.Conflict, "collection.etag", "ETAG_MISMATCH")
    assert (await settings.update(["rerank"], rerank=False, etag=second.etag)).rerank is False


@pytest.mark.parametrize("paths", [[], ["chunk_size"], ["rerank", "name"]], ids=str)
async def test_update_of_what_is_fixed_is_refused(paths: list[str], settings: Settings):
    """By the mask's name."""
    refused = await refusal(settings.update(paths, rerank=True))
    assert (type(refused), refused.field) == (errors.InvalidInput, "update_mask")


async def test_update_of_a_collection_that_is_not_there_is_not_found(settings: Settings):
    """Nothing is made by changing it."""
    refused = await refusal(settings.update(["rerank"], name="tenants/-/collections/none"))
    assert (type(refused), refused.field) == (errors.NotFound, "collection.name")
