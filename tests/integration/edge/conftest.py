from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from integration.edge.edge_server import EdgeServer, create
from qdrant_client import AsyncQdrantClient


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EdgeServer]:
    edge = EdgeServer(tmp_path / "data")
    try:
        await edge.start()
        yield edge
    finally:
        if edge.running:
            edge.stop()


@pytest.fixture
async def client(server: EdgeServer) -> AsyncIterator[AsyncQdrantClient]:
    """A client and one collection with a dense and a sparse vector."""
    qdrant = server.client()
    await create(qdrant)
    yield qdrant
    await qdrant.close()
