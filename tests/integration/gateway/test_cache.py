import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from fakes.redis_server import RedisServer
from redis.exceptions import RedisError

from gannet.common.v1 import vectors_pb2
from gannet.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from gannet_gateway.cache.breaker import Breaker
from gannet_gateway.cache.embedder import CachedEmbedder
from gannet_gateway.cache.local import LocalTier
from gannet_gateway.cache.shared import PREFIX, SharedTier, connect
from gannet_gateway.cache.tiers import Computed, Tier, TieredCache
from gannet_service.errors import InternalError, to_status

# Far more than any test takes, where the point is not the time.
LONG_S = 30.0


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A fresh Redis."""
    started = RedisServer(tmp_path)
    yield started
    if started.process.poll() is None:
        started.kill()


class Gateway:
    """One gateway's side of the shared cache."""

    def __init__(self, server: RedisServer, *, timeout_s: float = LONG_S, local: bool = False) -> None:
        self.clock = Clock()
        self.breaker = Breaker(failures_max=2, open_s=2.0, clock=self.clock)
        client = connect(server.url, server.password_file, timeout_s=timeout_s)
        self.shared = SharedTier(client, timeout_s=timeout_s, ttl_s=60, breaker=self.breaker)
        self.cache = TieredCache("test", LocalTier(bytes_max=1 << 20, ttl_s=60) if local else None, self.shared)
        self.computed = 0

    async def value(self, key: bytes = b"k") -> bytes:
        async def compute() -> Computed:
            self.computed += 1
            return Computed(value=b"value of " + key)

        return (await self.cache.get_or_compute(key, compute)).value


async def test_second_gateway_takes_what_the_first_computed(server: RedisServer):
    """One computation for both; an empty value is a value."""
    first, second = Gateway(server), Gateway(server)
    assert await first.value() == await second.value() == b"value of k"
    assert (first.computed, second.computed) == (1, 0)
    await first.shared.put_many({b"empty": b""})
    assert await second.shared.get_many([b"empty", b"none"]) == [b"", None]
    await first.shared.close()
    await second.shared.close()


async def test_values_in_thousands_come_back_in_order(server: RedisServer):
    """Over several batches, with gaps, and with a time to live."""
    gateway = Gateway(server)
    stored = {str(number).encode(): bytes([number % 256]) * number for number in range(0, 1000, 2)}
    await gateway.shared.put_many(stored)
    keys = [str(number).encode() for number in range(1000)]
    assert await gateway.shared.get_many(keys) == [stored.get(key) for key in keys]
    with server.client() as client:
        assert 0 < client.pttl(PREFIX + b"2") <= 60_000
    await gateway.shared.close()


@pytest.mark.parametrize("garbage", [b"", b"x", b"garbage of some length"])
async def test_value_that_is_not_what_was_stored_is_a_miss_and_deleted(server: RedisServer, garbage: bytes):
    """Damaged bytes reach nobody."""
    gateway = Gateway(server)
    with server.client() as client:
        client.set(PREFIX + b"k", garbage)
        assert await gateway.shared.get_many([b"k"]) == [None]
        assert not client.exists(PREFIX + b"k")
        assert await gateway.value() == b"value of k"
        assert client.exists(PREFIX + b"k")
    await gateway.shared.close()


async def test_value_under_anothers_key_is_a_miss(server: RedisServer):
    """A whole value in the wrong place is as wrong as a damaged one."""
    gateway = Gateway(server)
    await gateway.shared.put_many({b"mine": b"secret"})
    with server.client() as client:
        client.copy(PREFIX + b"mine", PREFIX + b"theirs")
    assert await gateway.shared.get_many([b"mine", b"theirs"]) == [b"secret", None]
    await gateway.shared.close()


async def test_redis_killed_and_restarted_costs_no_call(server: RedisServer):
    """Every call is answered; the breaker opens, and one trial closes it again."""
    gateway = Gateway(server)
    assert await gateway.value() == b"value of k"
    server.kill()
    for number in range(5):
        key = b"down%d" % number
        assert await gateway.value(key) == b"value of " + key
    assert gateway.breaker.is_open
    server.start()
    assert await gateway.shared.get_many([b"k"]) == [None]
    assert gateway.breaker.is_open
    gateway.clock.now += 2.0
    assert await gateway.value() == b"value of k"
    assert not gateway.breaker.is_open
    with server.client() as client:
        assert client.exists(PREFIX + b"k")
    await gateway.shared.close()


async def test_redis_that_hangs_costs_two_timeouts_and_then_nothing(server: RedisServer):
    """A stopped process: the breaker's failures are waited for, later calls ask it nothing; it comes back whole."""
    gateway = Gateway(server, timeout_s=0.25)
    assert await gateway.value() == b"value of k"
    server.process.send_signal(signal.SIGSTOP)
    try:
        for number in range(20):
            key = b"hung%d" % number
            assert await gateway.value(key) == b"value of " + key
        assert gateway.breaker.is_open
        gateway.clock.now += 2.0
        assert await gateway.value(b"trial") == b"value of trial"
        assert gateway.breaker.is_open
    finally:
        server.process.send_signal(signal.SIGCONT)
    gateway.clock.now += 2.0
    gateway.computed = 0
    # Replies to what was asked before it hung must not be taken for replies to this.
    assert [await gateway.value(key) for key in (b"k", b"new")] == [b"value of k", b"value of new"]
    assert not gateway.breaker.is_open
    assert gateway.computed == 1
    await gateway.shared.close()


async def test_redis_without_the_password_is_a_miss(server: RedisServer, tmp_path: Path):
    """A refusal is a failure like any other."""
    server.password_file.write_text("wrong")
    gateway = Gateway(server)
    assert await gateway.value() == b"value of k"
    with pytest.raises(RedisError):
        await gateway.shared.probe()
    await gateway.shared.close()


async def test_redis_that_evicts_loses_values_and_nothing_else(server: RedisServer):
    """With a bound on its memory old values are computed again; every value is right."""
    with server.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("maxmemory", client.info("memory")["used_memory"] + (1 << 20))
        gateway = Gateway(server)
        large = {b"%d" % number: bytes([number]) * 65_536 for number in range(100)}
        for key, value in large.items():
            await gateway.shared.put_many({key: value})
        found = await gateway.shared.get_many(list(large))
        kept = [key for key, value in zip(large, found, strict=True) if value is not None]
        assert 0 < len(kept) < len(large)
        assert all(value in (None, large[key]) for key, value in zip(large, found, strict=True))
        assert client.info("stats")["evicted_keys"] > 0
        await gateway.shared.close()


async def test_redis_full_and_not_evicting_is_no_error(server: RedisServer):
    """A write that is refused is a value that is not kept."""
    with server.client() as client:
        client.config_set("maxmemory", 1)
        gateway = Gateway(server)
        assert await gateway.value() == b"value of k"
        assert not client.exists(PREFIX + b"k")
        await gateway.shared.close()


# ---- the embedder with a cache in front of it ---------------------------------------------------------------------


class EmbedderServicer(embedder_pb2_grpc.EmbedderServicer):
    """Vectors that depend on text and language; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def Info(self, request: embedder_pb2.InfoRequest, context: object) -> embedder_pb2.InfoResponse:  # noqa: N802
        del request, context
        return embedder_pb2.InfoResponse(model="m", model_digest="d", dim=2, batch_texts_max=4, languages=["en", "hr"])

    async def Embed(self, request: embedder_pb2.EmbedRequest, context: object) -> embedder_pb2.EmbedResponse:  # noqa: N802
        del context
        self.asked += request.texts
        await self.gate.wait()
        response = embedder_pb2.EmbedResponse()
        for text in request.texts:
            result = response.results.add(truncated=len(text) > 100)
            if text == "bad":
                result.error.CopyFrom(to_status(InternalError("the model failed on this text", reason="MODEL_FAILURE")))
                continue
            if request.want_dense:
                dense = np.array([len(text), len(request.sparse.language)], "<f4")
                result.dense.CopyFrom(vectors_pb2.DenseVector(dim=2, data=dense.tobytes()))
            if request.want_sparse:
                values = np.array([request.sparse.average_length], "<f4")
                result.sparse.CopyFrom(vectors_pb2.SparseVector(indices=[len(text)], values=values.tobytes()))
        return response


@pytest.fixture
async def embedder() -> AsyncIterator[tuple[EmbedderServicer, str]]:
    """An embedder on a socket."""
    servicer = EmbedderServicer()
    running = grpc.aio.server()
    embedder_pb2_grpc.add_EmbedderServicer_to_server(servicer, running)
    port = running.add_insecure_port("127.0.0.1:0")
    await running.start()
    yield servicer, f"127.0.0.1:{port}"
    await running.stop(None)


async def test_embedder_is_asked_once_for_a_query_by_two_gateways(
    server: RedisServer, embedder: tuple[EmbedderServicer, str]
):
    """Fifty at once and one later through one gateway, one through another: one text is embedded."""
    servicer, target = embedder
    servicer.gate.clear()
    gateways = [Gateway(server, local=True) for _ in range(2)]
    first, second = (CachedEmbedder(target, gateway.cache, timeout_s=LONG_S) for gateway in gateways)
    asks = [asyncio.ensure_future(first.query(" čaj ", language="hr", dense=True, sparse=True)) for _ in range(50)]
    await asyncio.sleep(0)
    servicer.gate.set()
    results = await asyncio.gather(*asks)
    results.append(await first.query("čaj", language="hr", dense=True, sparse=True))
    results.append(await second.query("c\u030caj", language="hr", dense=True, sparse=True))
    assert servicer.asked == ["čaj"]
    for found in results:
        dense, sparse = found.dense, found.sparse
        assert dense is not None
        assert sparse is not None
        assert (dense.tolist(), sparse.indices.tolist(), sparse.values.tolist()) == ([3.0, 2.0], [3], [0.0])
    assert [found.tier for found in results[-2:]] == [Tier.LOCAL, Tier.SHARED]
    for gateway, cached in zip(gateways, (first, second), strict=True):
        await gateway.shared.close()
        await cached.channel.close()


async def test_embedder_is_asked_again_for_other_vectors_of_a_text(embedder: tuple[EmbedderServicer, str]):
    """Language, and which vectors are wanted, belong to the question."""
    servicer, target = embedder
    cached = CachedEmbedder(target, TieredCache("test", LocalTier(bytes_max=1 << 20, ttl_s=60), None), timeout_s=LONG_S)
    for _ in range(2):
        assert (await cached.query("q", language="hr", dense=True, sparse=False)).sparse is None
        assert (await cached.query("q", language="hr", dense=False, sparse=True)).dense is None
        both = await cached.query("q", language="en", dense=True, sparse=True)
        assert both.dense is not None
        assert both.sparse is not None
    assert servicer.asked == ["q"] * 3
    await cached.channel.close()


async def test_embedder_gets_only_the_passages_that_redis_does_not_know(
    server: RedisServer, embedder: tuple[EmbedderServicer, str]
):
    """In order, each text once, and the same values as without a cache."""
    servicer, target = embedder
    gateway = Gateway(server)
    cached = CachedEmbedder(target, gateway.cache, timeout_s=LONG_S)
    options = {"language": "en", "average_length": 2.5, "timeout_s": LONG_S}
    await cached.passages(["aa", "b"], **options)
    texts = ["b", "c" * 101, "aa", "c" * 101, "dddd"]
    vectors = await cached.passages(texts, **options)
    assert servicer.asked == ["aa", "b", "c" * 101, "dddd"]
    assert [vector.dense[0] for vector in vectors] == [len(text) for text in texts]
    assert [vector.truncated for vector in vectors] == [len(text) > 100 for text in texts]
    assert {vector.sparse.values[0] for vector in vectors} == {2.5}
    await cached.passages(["b"], language="en", average_length=3.0, timeout_s=LONG_S)
    assert servicer.asked[-1] == "b"
    await gateway.shared.close()
    await cached.channel.close()


async def test_embedder_is_asked_again_for_a_passage_that_failed(
    server: RedisServer, embedder: tuple[EmbedderServicer, str]
):
    """The error stands in the passage's place, the others' vectors are there and kept; the error is not."""
    servicer, target = embedder
    gateway = Gateway(server)
    cached = CachedEmbedder(target, gateway.cache, timeout_s=LONG_S)
    options = {"language": "en", "average_length": 2.5, "timeout_s": LONG_S}
    for _ in range(2):
        first, bad, last = await cached.passages(["aa", "bad", "b"], **options)
        assert isinstance(bad, InternalError)
        assert bad.reason == "MODEL_FAILURE"
        assert [one.dense[0] for one in (first, last)] == [2, 1]
    assert servicer.asked == ["aa", "bad", "b", "bad"]
    await gateway.shared.close()
    await cached.channel.close()
