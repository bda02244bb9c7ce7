"""Every read equals one whole generation, and nothing acknowledged is lost: whatever crashes, wherever, on either engine.

`make consistency` runs many seeds; `make test` runs the first few. A seed fixes what is written, when processes die and what is read.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import pytest
from consistency.workload import LEASE_S, Workload
from fakes.postgres import PostgresServer
from integration.edge.edge_server import EdgeServer
from qdrant_client import AsyncQdrantClient
from unit.gateway.fakes import MODEL

from gannet_gateway.blobs.blobs import Blobs
from gannet_gateway.blobs.directory import DirectoryStore
from gannet_gateway.documents.ingest import Stores
from gannet_gateway.ledger.engine import Database, open_database
from gannet_gateway.ledger.journal import Journal
from gannet_gateway.ledger.ledger import Ledger
from gannet_gateway.vectors.index import Index
from gannet_gateway.vectors.points import qdrant_collection
from gannet_gateway.vectors.retriever import Retriever

SEEDS = int(os.environ.get("GANNET_CONSISTENCY_SEEDS", "3"))
TIMEOUT_S = 5.0


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EdgeServer]:
    """The embedded Qdrant, a process of its own."""
    server = EdgeServer(tmp_path_factory.mktemp("edge") / "data")
    server.start()
    yield server
    if server.running:
        server.stop()


@pytest.fixture
async def qdrant(edge: EdgeServer) -> AsyncIterator[AsyncQdrantClient]:
    """A client of it."""
    client = edge.client()
    yield client
    await client.close()


@pytest.fixture(params=["sqlite", "postgres"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """Either engine."""
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.database() if request.param == "postgres" else ""
    opened = await open_database(tmp_path, url, connections_max=8)
    yield opened
    await opened.close()


@pytest.fixture
async def stores(database: Database, qdrant: AsyncQdrantClient, tmp_path: Path) -> Stores:
    """Real stores."""
    index = Index(qdrant, timeout_s=TIMEOUT_S, replication_factor=1)
    await index.ensure_collection(qdrant_collection(MODEL.model, MODEL.digest), MODEL.dim)
    ledger = Ledger(database)
    await ledger.add_tenant("acme")
    return Stores(
        ledger=ledger,
        journal=Journal(database, lease_s=LEASE_S),
        blobs=Blobs(DirectoryStore(tmp_path / "blobs")),
        index=index,
    )


def workload(seed: int, stores: Stores, database: Database, qdrant: AsyncQdrantClient) -> Workload:
    """Two gateways where the engine allows it."""
    retriever = Retriever(qdrant, timeout_s=TIMEOUT_S)
    return Workload(seed, stores, database, retriever, gateways=2 if database.shared else 1)


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_reads_equal_whole_generations_whatever_gateways_crash(
    seed: int, stores: Stores, database: Database, qdrant: AsyncQdrantClient
):
    """Gateways die at any call to a store, before or after its effect, and are replaced."""
    await workload(seed, stores, database, qdrant).run(documents=5, operations=8, readers=3)


async def test_reads_equal_whole_generations_when_the_vector_store_is_killed(
    stores: Stores, database: Database, qdrant: AsyncQdrantClient, edge: EdgeServer
):
    """`kill -9` in the middle, with the gateways crashing as well."""
    run = workload(1_000_000, stores, database, qdrant)
    kill = partial(asyncio.to_thread, edge.kill_and_start)
    await run.run(documents=5, operations=12, readers=3, midway=kill)
