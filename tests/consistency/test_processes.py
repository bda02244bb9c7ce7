"""`kill -9` of gateways, of the vector store and of Redis at random points, seen from outside, over gRPC, with caches on.

Every reply equals one whole generation and is as new as what was acknowledged before it was asked for; nothing acknowledged is lost; no
reply holds a row of another tenant, whose documents have the same names and whose searches have the same words.
"""

import asyncio
import itertools
import os
import random
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from consistency.history import History, State, state_of_texts, text_of
from consistency.processes import Deployment, Processes
from consistency.workload import drawn
from fakes.model_servers import FaultyEmbedder, serving
from fakes.postgres import PostgresServer
from fakes.redis_server import RedisServer
from integration.conftest import Service
from integration.edge.edge_server import EdgeServer
from integration.gateway.stack import Client, File

from gannet.gateway.v1 import documents_pb2, search_pb2
from gannet_gateway.auth import digest_of
from gannet_gateway.ledger.engine import open_database
from gannet_gateway.ledger.ledger import Ledger

SEEDS = int(os.environ.get("GANNET_CONSISTENCY_PROCESS_SEEDS", "1"))
TENANTS = {"first": "gnt_the_first_tenants_key", "second": "gnt_the_second_tenants_key"}
PARENT = "tenants/-/collections/shared"
QUERIES = ("version part", "words that fill the passage", "size")
RETENTION_S = 2
COLLECT_DELAY_S = 6
# A read that takes longer than passages are kept for it proves nothing.
READ_TIMEOUT_S = 4
WRITE_TIMEOUT_S = 20
DOCUMENTS, READERS, KILLS = 3, 2, 4
READS_BETWEEN_KILLS = 10
READS_MIN = 200


@pytest.fixture(params=["sqlite", "postgres"])
async def processes(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Processes]:
    """One gateway on SQLite, or two on PostgreSQL; both with Redis and a vector store of their own."""
    shared = request.param == "postgres"
    postgres: PostgresServer = request.getfixturevalue("postgres")
    url = postgres.database() if shared else ""
    (tmp_path / "data").mkdir()
    (tmp_path / "key").write_text(TENANTS["first"])
    ledger = Ledger(await open_database(tmp_path / "data", url))
    await ledger.add_tenant("second")
    await ledger.add_api_key("second", digest_of(TENANTS["second"]), "test")
    await ledger.close()
    redis, edge = RedisServer(tmp_path), EdgeServer(tmp_path / "vectors")
    edge.start()
    with serving(FaultyEmbedder()) as embedder:
        settings: dict[str, Any] = {
            "embedder_target": embedder,
            "qdrant_url": f"http://127.0.0.1:{edge.port}",
            "data_dir": tmp_path / "data",
            "bootstrap_api_key_file": tmp_path / "key",
            "bootstrap_tenant": "first",
            "cache_redis_url": redis.url,
            "cache_redis_password_file": redis.password_file,
            "rerank_default": False,
            "lease_s": 1,
            "publish_interval_ms": 0,
            "snapshot_retention_s": RETENTION_S,
            "collect_delay_s": COLLECT_DELAY_S,
            **({"ledger_url": url} if shared else {}),
        }
        environment = {f"GANNET_GATEWAY_{name.upper()}": value for name, value in settings.items()}
        running = Processes(
            Deployment(
                start=partial(Service, "gannet_gateway", environment),
                edge=edge,
                redis=redis,
                gateways=2 if shared else 1,
                keys=tuple(TENANTS.values()),
            )
        )
        await running.start()
        yield running
        await running.close()
    edge.stop()
    redis.kill()


class TenantWork:
    """One tenant's writers and readers, and what they were told."""

    def __init__(self, tenant: str, processes: Processes) -> None:
        self.tenant = tenant
        self.key = TENANTS[tenant]
        self.history = History()
        self.newest = 0
        self._processes = processes

    async def write(self, document: str, own: random.Random, over: asyncio.Event) -> None:
        """Upload, delete and roll back one document, one operation after the other, until all is over."""
        versions: dict[int, str] = {}
        for number in itertools.count():
            if over.is_set():
                return
            client = self._processes.client(own, self.key)
            version: str | None = f"{self.tenant}.{document}.{number}"
            try:
                kind = own.random()
                if kind < 0.15 and versions:
                    version = None
                    await client.delete(document, parent=PARENT)
                    # The call does not tell the generation; this one, and maybe some before it, is without the document.
                    generation = (await client.collection(PARENT)).generation
                    self.history.unknown(document, None)
                elif kind < 0.3 and versions:
                    revision = own.choice(sorted(versions))
                    version = versions[revision]
                    rolled = await client.rollback(f"{PARENT}/documents/{document}", revision)
                    versions[rolled.revision], generation = version, rolled.generation
                else:
                    content = text_of(version or "", own.randint(1, 4)).encode()
                    ack = await _uploaded(client, document, content)
                    versions[ack.revision], generation = version or "", ack.generation
            except (grpc.RpcError, TimeoutError, NotIndexed):
                self.history.unknown(document, version)
                versions.clear()
                continue
            self.history.acknowledged(document, version, generation)
            self.newest = max(self.newest, generation)

    async def read(self, own: random.Random) -> State | None:
        """One search; whatever comes back is whole, of this tenant, and not older than what was acknowledged before."""
        known = self.newest
        options = search_pb2.SearchOptions(mode=own.choice([1, 2, 3]), top_k=500)
        request = search_pb2.SearchRequest(parent=PARENT, query=own.choice(QUERIES), options=options)
        try:
            reply = await self._processes.client(own, self.key).search_within(request, READ_TIMEOUT_S)
        except grpc.RpcError:
            return None
        assert reply.generation >= known, f"generation {reply.generation} after {known} was acknowledged"
        state = state_of_texts((passage.document.rpartition("/")[2], passage.text) for passage in reply.passages)
        foreign = {version for version in state.values() if not version.startswith(f"{self.tenant}.")}
        assert foreign == set(), f"{self.tenant} was shown {foreign}"
        self.history.read(reply.generation, state)
        return state

    async def read_on(self, own: random.Random, over: asyncio.Event) -> None:
        """Search until all is over."""
        while not over.is_set():
            await self.read(own)


class NotIndexed(Exception):
    """The document was acknowledged with something else."""


async def _uploaded(client: Client, document: str, content: bytes) -> Any:
    async with asyncio.timeout(WRITE_TIMEOUT_S):
        acks = await client.upload([(document, File(content=content, start={"mime_type": "text/markdown"}))], PARENT)
    if not isinstance(acks[0], documents_pb2.DocumentIndexed):
        raise NotIndexed
    return acks[0]


async def _kill(processes: Processes, tenants: list[TenantWork], chance: random.Random) -> None:
    """Kill one after the other, with reads and acknowledged writes in between."""
    for _ in range(KILLS):
        await processes.kill_one(chance)
        for tenant in tenants:
            for _ in range(READS_BETWEEN_KILLS):
                await tenant.read(chance)
            generation = tenant.newest
            while tenant.newest == generation:
                await tenant.read(chance)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(SEEDS))
async def test_reads_are_whole_and_fresh_whatever_process_is_killed(seed: int, processes: Processes):
    """Two tenants write, read and search alike while gateways, the vector store and Redis are killed and come back."""
    chance = drawn(seed)
    tenants = [TenantWork(tenant, processes) for tenant in TENANTS]
    for tenant in tenants:
        await processes.client(chance, tenant.key).create("shared", chunk_size=100)
    over = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for tenant in tenants:
            for number in range(DOCUMENTS):
                tasks.create_task(tenant.write(f"d{number}", drawn(chance.random()), over))
            for _ in range(READERS):
                tasks.create_task(tenant.read_on(drawn(chance.random()), over))
        await _kill(processes, tenants, drawn(chance.random()))
        over.set()
    for tenant in tenants:
        last = None
        while last is None or tenant.history.reads < READS_MIN:
            last = await tenant.read(chance)
        tenant.history.check(last)
