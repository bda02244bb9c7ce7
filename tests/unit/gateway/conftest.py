from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from unit.gateway.fakes import COLLECTION, FakeEmbedder, FakeIndex, collection_record

from gannet_gateway.blobs import Blobs
from gannet_gateway.ledger.engine import open_engine
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


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    """A real ledger with one tenant and one collection; its clock counts transactions."""
    ticks = iter(range(1, 1_000_000))
    opened = Ledger(await open_engine(tmp_path), clock=lambda: float(next(ticks)))
    await opened.add_tenant(COLLECTION.tenant)
    await opened.create_collection(collection_record())
    yield opened
    await opened.close()


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
