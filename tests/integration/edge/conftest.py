from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from integration.edge.edge_server import EdgeServer, create
from qdrant_client import AsyncQdrantClient


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EdgeServer]:
    """One server for all tests that do not kill it."""
    yield from _running(tmp_path_factory.mktemp("edge"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EdgeServer]:
    """A server of the test's own."""
    yield from _running(tmp_path)


@pytest.fixture
async def client(request: pytest.FixtureRequest) -> AsyncIterator[AsyncQdrantClient]:
    """A client and one empty collection; on the test's own server if it asks for one, else on the shared one."""
    own = "server" in request.fixturenames
    edge: EdgeServer = request.getfixturevalue("server" if own else "shared_server")
    qdrant = edge.client()
    if not own:
        for found in (await qdrant.get_collections()).collections:
            await qdrant.delete_collection(found.name)
    await create(qdrant)
    yield qdrant
    await qdrant.close()


def _running(folder: Path) -> Iterator[EdgeServer]:
    edge = EdgeServer(folder / "data")
    try:
        edge.start()
        yield edge
    finally:
        if edge.running:
            edge.stop()
