"""Queries of several callers at once, as the embedder gets them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from gannet.embedder.v1 import embedder_pb2
from gannet_gateway.batching import Batching
from gannet_gateway.cache.embedder import CachedEmbedder
from gannet_gateway.cache.tiers import TieredCache
from gannet_gateway.clients import EmbeddingModel
from gannet_service.errors import GannetError, InvalidInput, to_status

TRACED = NonRecordingSpan(SpanContext(trace_id=1, span_id=2, is_remote=True, trace_flags=TraceFlags(1)))


class Server:
    """Gives each text its length as a vector, once it is let; refuses "bad"."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.answers = asyncio.Event()

    async def unary(self, _method: Any, request: embedder_pb2.EmbedRequest, **_: Any) -> embedder_pb2.EmbedResponse:
        """As `gannet_service.clients.unary`."""
        self.asked.append(list(request.texts))
        await self.answers.wait()
        results = [embedder_pb2.EmbedResult() for _ in request.texts]
        for text, result in zip(request.texts, results, strict=True):
            if text == "bad":
                result.error.CopyFrom(to_status(InvalidInput("text: bad")))
            else:
                result.dense.dim, result.dense.data = 1, np.array([len(text)], "<f4").tobytes()
        return embedder_pb2.EmbedResponse(results=results)


@pytest.fixture
async def embedder(server: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[CachedEmbedder]:
    """One that has a single request under way at a time."""

    async def model(_self: Any) -> EmbeddingModel:
        return EmbeddingModel(model="m", digest="d", dim=1, batch_texts_max=32, languages=("en",))

    monkeypatch.setattr("gannet_service.clients.unary", server.unary)
    monkeypatch.setattr(CachedEmbedder, "model", model)
    batching = Batching(in_flight=1, wait_s=3600)
    embedder = CachedEmbedder("127.0.0.1:1", TieredCache("test", None, None), timeout_s=1, batching=batching)
    yield embedder
    await embedder.channel.close()


@pytest.fixture
def server() -> Server:
    """One that answers nothing yet."""
    return Server()


async def asked(server: Server, embedder: CachedEmbedder, texts: list[str]) -> list[Any]:
    """What becomes of queries that come one after the other, before any is answered."""

    async def one(text: str) -> float:
        found = await embedder.query(text, language="en", dense=True, sparse=False)
        assert found.dense is not None
        return float(found.dense[0])

    asking = [asyncio.create_task(one(text)) for text in texts]
    for _ in range(10):
        await asyncio.sleep(0)
    server.answers.set()
    return await asyncio.gather(*asking, return_exceptions=True)


async def test_queries_that_come_meanwhile_share_a_request(server: Server, embedder: CachedEmbedder):
    """Each gets its own vector, and one that is refused is refused alone."""
    found = await asked(server, embedder, ["a", "bb", "bad", "cccc"])
    assert server.asked == [["a"], ["bb", "bad", "cccc"]]
    assert [one.reason if isinstance(one, GannetError) else one for one in found] == [1, 2, "INVALID_INPUT", 4]


async def test_query_that_is_traced_has_a_request_of_its_own(server: Server, embedder: CachedEmbedder):
    """Its span has its caller's as a parent, which a request of several callers cannot have."""
    token = otel_context.attach(trace.set_span_in_context(TRACED))
    try:
        found = await asked(server, embedder, ["a", "bb", "bad"])
    finally:
        otel_context.detach(token)
    assert server.asked == [["a"], ["bb"], ["bad"]]
    assert found[:2] == [1, 2]
    assert isinstance(found[2], InvalidInput)
