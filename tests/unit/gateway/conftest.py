from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes.postgres import PostgresServer
from unit.gateway.fakes import COLLECTION, FakeEmbedder, FakeIndex, collection_record
from unit.gateway.ingestion import Ingestion, MakeIngestion, State

from gannet_gateway.blobs.blobs import Blobs
from gannet_gateway.blobs.directory import DirectoryStore
from gannet_gateway.documents.ingest import Stores
from gannet_gateway.ledger.engine import Database, open_database
from gannet_gateway.ledger.journal import Journal
from gannet_gateway.ledger.ledger import Ledger
from gannet_gateway.ledger.retention import Retention
from gannet_service import call
from gannet_service.call import Call, Principal


@pytest.fixture(autouse=True)
def caller() -> Iterator[None]:
    """Tests run as a call of tenant "acme" without a deadline."""
    principal = Principal(tenant=COLLECTION.tenant, credential="k")
    call.set_current(Call(method="test", request_id="r", deadline=None, principal=principal))
    yield
    call.set_current(None)


@pytest.fixture(params=["sqlite", "postgres"])
def ledger_url(request: pytest.FixtureRequest) -> str:
    """Every test of the ledger runs on both engines: no URL, which is SQLite, and that of an empty PostgreSQL database."""
    if request.param == "sqlite":
        return ""
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.database()


@pytest.fixture
async def database(ledger_url: str, tmp_path: Path) -> AsyncIterator[Database]:
    """An open, migrated database."""
    opened = await open_database(tmp_path, ledger_url)
    yield opened
    await opened.close()


class Clock:
    """Unix seconds that pass when a test says so, and a millisecond with every look."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


@pytest.fixture
def clock() -> Clock:
    """What the ledger takes for the time."""
    return Clock()


@pytest.fixture
def journal(database: Database, clock: Clock, ledger: Ledger) -> Journal:
    """A real journal; a lease is 30 seconds."""
    return Journal(database, lease_s=30, clock=clock)


@pytest.fixture
def retention(database: Database, clock: Clock) -> Retention:
    """What is kept of the past."""
    return Retention(database, clock=clock)


@pytest.fixture
async def ledger(database: Database, clock: Clock) -> Ledger:
    """A real ledger with one tenant and one collection."""
    opened = Ledger(database, clock=clock)
    await opened.add_tenant(COLLECTION.tenant)
    await opened.create_collection(collection_record())
    return opened


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    """A real blob store."""
    return Blobs(DirectoryStore(tmp_path / "blobs"))


@pytest.fixture
def index() -> FakeIndex:
    """An empty vector store."""
    return FakeIndex()


@pytest.fixture
def embedder() -> FakeEmbedder:
    """An embedder."""
    return FakeEmbedder()


@pytest.fixture
def stores(ledger: Ledger, journal: Journal, blobs: Blobs, index: FakeIndex) -> Stores:
    """Where documents are kept."""
    return Stores(ledger=ledger, journal=journal, blobs=blobs, index=index)


@pytest.fixture
def make_ingestion(stores: Stores, embedder: FakeEmbedder, retention: Retention) -> MakeIngestion:
    """Makes what one gateway process holds, over the test's stores or those given by name."""

    def make(*, embedder: Any = embedder, timeout_s: float = 30.0, **replaced: Any) -> Ingestion:
        return Ingestion(replace(stores, **replaced), embedder, retention, timeout_s=timeout_s)

    return make


@pytest.fixture
async def ingestion(make_ingestion: MakeIngestion) -> AsyncIterator[Ingestion]:
    """One gateway process."""
    made = make_ingestion()
    yield made
    await made.publisher.close()


@pytest.fixture
def state(database: Database, ledger: Ledger, index: FakeIndex, tmp_path: Path) -> State:
    """Reads all stores."""
    return State(database, ledger, index, tmp_path / "blobs")
