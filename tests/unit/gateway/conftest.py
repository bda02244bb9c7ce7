from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from fakes.postgres import PostgresServer
from unit.gateway.fakes import COLLECTION, FakeEmbedder, FakeIndex, collection_record

from gannet_gateway.blobs import Blobs
from gannet_gateway.ledger.engine import Database, open_database
from gannet_gateway.ledger.ledger import Ledger
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


@pytest.fixture
async def ledger(database: Database) -> Ledger:
    """A real ledger with one tenant and one collection; its clock counts transactions."""
    ticks = iter(range(1, 1_000_000))
    opened = Ledger(database, clock=lambda: float(next(ticks)))
    await opened.add_tenant(COLLECTION.tenant)
    await opened.create_collection(collection_record())
    return opened


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    """A real blob store."""
    return Blobs(tmp_path / "blobs")


@pytest.fixture
def index() -> FakeIndex:
    """An empty vector store."""
    return FakeIndex()


@pytest.fixture
def embedder() -> FakeEmbedder:
    """An embedder."""
    return FakeEmbedder()
