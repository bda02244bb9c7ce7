"""Model servers that refuse, hang or are gone, and a vector store that hangs: what a search answers, and that it answers in time."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from fakes.model_servers import FaultyEmbedder, FaultyReranker, serving
from integration.gateway.conftest import KEY, Stack
from integration.gateway.stack import COLLECTION, TEXTS, Client, refusal

from gannet.gateway.v1 import search_pb2
from gannet_service import errors

# Long enough for a busy machine; a hung stage takes its share of it.
DEADLINE_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Faulty:
    """A gateway over model servers that the test stops from answering."""

    stack: Stack
    embedder: FaultyEmbedder
    reranker: FaultyReranker


@pytest.fixture(scope="module")
def faulty(start_gateway: Callable[..., Stack]) -> Iterator[Faulty]:
    embedder, reranker = FaultyEmbedder(), FaultyReranker()
    with serving(embedder) as embedder_at, serving(reranker) as reranker_at:
        # Without caches, which would answer for the model servers.
        caches = {"cache_embeddings_bytes_max": 0, "cache_results": "false"}
        stack = start_gateway(embedder_target=embedder_at, reranker_target=reranker_at, **caches)
        yield Faulty(stack=stack, embedder=embedder, reranker=reranker)
        stack.gateway.stop()


@pytest.fixture
async def faulty_client(faulty: Faulty, connect: Callable[[Stack, str], Client]) -> Client:
    client = connect(faulty.stack, KEY)
    if not (await client.collections()).collections:
        await client.create("docs")
        assert all(ack.revision == 1 for ack in await client.upload(TEXTS.items()))
    return client


async def search(client: Client, query: str, **options: Any) -> search_pb2.SearchResponse:
    """A search of a caller who waits DEADLINE_S."""
    request = search_pb2.SearchRequest(parent=COLLECTION, query=query, options=search_pb2.SearchOptions(**options))
    method = client.channel.unary_unary(
        "/gannet.gateway.v1.SearchService/Search",
        request_serializer=search_pb2.SearchRequest.SerializeToString,
        response_deserializer=search_pb2.SearchResponse.FromString,
    )
    return await method(request, metadata=client.metadata, timeout=DEADLINE_S)


def degraded(reply: search_pb2.SearchResponse) -> list[tuple[str, str]]:
    """The stages that were skipped."""
    return [(entry.stage, entry.reason) for entry in reply.degraded]


async def test_search_with_all_stages_is_whole(faulty_client: Client):
    """The fakes serve: nothing is degraded."""
    reply = await search(faulty_client, "generator function")
    assert degraded(reply) == []
    assert reply.passages[0].document.endswith("yield.md")
    assert reply.passages[0].scores.HasField("fused")


@pytest.mark.parametrize("fault, reason", [("refusing", "UNAVAILABLE"), ("hanging", "DEADLINE")])
async def test_search_without_embedder_is_bm25(faulty: Faulty, faulty_client: Client, fault: str, reason: str):
    """The words still find the passage, it is reranked, and the reply says what was skipped."""
    with getattr(faulty.embedder, fault)():
        reply = await search(faulty_client, "generator function")
        dense = await refusal(search(faulty_client, "generator function", mode=search_pb2.SEARCH_MODE_DENSE))
    assert degraded(reply) == [("embed", reason)]
    assert reply.passages[0].document.endswith("yield.md")
    assert reply.passages[0].scores.HasField("sparse")
    assert reply.passages[0].scores.HasField("rerank")
    assert isinstance(dense, errors.DependencyUnavailable)


async def test_sparse_search_with_a_hung_embedder_is_whole(faulty: Faulty, faulty_client: Client):
    """It never asks the embedder."""
    with faulty.embedder.hanging():
        reply = await search(faulty_client, "generator function", mode=search_pb2.SEARCH_MODE_SPARSE)
    assert (degraded(reply), reply.passages[0].document[-8:]) == ([], "yield.md")


@pytest.mark.parametrize("fault, reason", [("refusing", "UNAVAILABLE"), ("hanging", "DEADLINE")])
async def test_search_without_reranker_keeps_the_first_order(
    faulty: Faulty, faulty_client: Client, fault: str, reason: str
):
    """The same passages in the same order as without reranking."""
    plain = await search(faulty_client, "generator function", rerank={"enabled": False})
    with getattr(faulty.reranker, fault)():
        reply = await search(faulty_client, "generator function")
    assert degraded(reply) == [("rerank", reason)]
    assert [passage.name for passage in reply.passages] == [passage.name for passage in plain.passages]


async def test_search_without_any_model_server_still_finds(faulty: Faulty, faulty_client: Client):
    """Both hang: BM25's order, inside the deadline."""
    with faulty.embedder.hanging(), faulty.reranker.hanging():
        reply = await search(faulty_client, "generator function")
    assert degraded(reply) == [("embed", "DEADLINE"), ("rerank", "DEADLINE")]
    assert reply.passages[0].document.endswith("yield.md")


async def test_search_with_a_hung_vector_store_is_unavailable_in_time(faulty: Faulty, faulty_client: Client):
    """The caller hears UNAVAILABLE before the deadline, not DEADLINE_EXCEEDED at it."""
    os.kill(faulty.stack.edge.pid, signal.SIGSTOP)
    try:
        refused = await refusal(search(faulty_client, "generator function"))
    finally:
        os.kill(faulty.stack.edge.pid, signal.SIGCONT)
    assert isinstance(refused, errors.DependencyUnavailable)
