import asyncio

import grpc
import numpy as np
import pytest
from integration.edge.edge_server import COLLECTION, EdgeServer, create, point
from qdrant_client import AsyncQdrantClient, models


async def test_second_process_on_the_same_folder_explains_and_exits(server: EdgeServer, client: AsyncQdrantClient):
    """Exit code 3 and the folder's name; the first process goes on."""
    second = EdgeServer(server.data_dir)
    process = second.spawn()
    assert await asyncio.to_thread(process.wait, 30) == 3
    assert f"edge: {server.data_dir} is in use by another process" in second.output()
    assert await client.collection_exists(COLLECTION)


async def test_unreadable_collection_stops_the_start_and_is_named(server: EdgeServer, client: AsyncQdrantClient):
    """Exit code 3 and the folder's name; serving the rest would hide the loss."""
    await asyncio.to_thread(server.stop)
    folder = server.data_dir / "collections" / COLLECTION
    (folder / "collection.json").write_text("{")
    process = server.spawn()
    assert await asyncio.to_thread(process.wait, 30) == 3
    assert f"edge: {folder}: cannot read the collection" in server.output()


async def test_full_disk_refuses_writes_but_not_deletions(tmp_path):
    """Below the least free space writes get RESOURCE_EXHAUSTED, while what is there is served and can be deleted."""
    roomy = EdgeServer(tmp_path / "data")
    roomy.start()
    client = roomy.client()
    await create(client)
    await client.upsert(COLLECTION, [point(1), point(2)], wait=True)
    await client.close()
    roomy.stop()
    full = EdgeServer(tmp_path / "data", disk_free_bytes_min=str(1 << 50))
    full.start()
    client = full.client()
    try:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.upsert(COLLECTION, [point(3)], wait=True)
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        await client.delete(COLLECTION, [1], wait=True)
        assert (await client.count(COLLECTION)).count == 1
        await client.close()
    finally:
        full.stop()


async def test_sigterm_ends_the_process_cleanly(server: EdgeServer, client: AsyncQdrantClient):
    """Exit code 0, and even an unwaited write is on disk."""
    await client.upsert(COLLECTION, [point(1)], wait=False)
    assert await asyncio.to_thread(server.stop) == 0
    server.start()
    restarted = server.client()
    assert (await restarted.count(COLLECTION)).count == 1
    await restarted.close()


async def test_health_check_reports_a_version_with_idf_corpus(client: AsyncQdrantClient):
    """The gateway refuses Qdrant before 1.19."""
    version = (await client.info()).version
    assert tuple(map(int, version.split(".")[:2])) >= (1, 19)


async def test_full_segments_are_closed_and_searched_exactly(tmp_path):
    """Every full segment is closed without waiting for idle time, and the answer stays that of an exact search."""
    server = EdgeServer(tmp_path / "data", segment_points_max="1000")
    server.start()
    client = server.client()
    try:
        await create(client)
        vectors = np.random.default_rng(7).standard_normal((3_000, 4)).astype(np.float32)
        points = [
            models.PointStruct(id=number, vector={"dense": vector.tolist()}, payload={})
            for number, vector in enumerate(vectors)
        ]
        for first in range(0, len(points), 1_000):
            await client.upsert(COLLECTION, points[first : first + 1_000], wait=True)
        async with asyncio.timeout(30):
            while (await client.get_collection(COLLECTION)).segments_count < 2:
                pass
        query = vectors[5]
        answer = await client.query_points(COLLECTION, query=query.tolist(), using="dense", limit=50)
        cosine = vectors @ query / (np.linalg.norm(vectors, axis=1) * np.linalg.norm(query))
        assert [hit.id for hit in answer.points] == np.argsort(-cosine, kind="stable")[:50].tolist()
        assert server.log("optimised")
        await client.close()
    finally:
        server.stop()


async def test_idle_server_rewrites_segments_with_many_deletions(tmp_path):
    """Once nobody asks anything, deleted points are dropped from the files."""
    server = EdgeServer(tmp_path / "data", optimise_idle_s="0")
    server.start()
    client = server.client()
    try:
        await create(client)
        await client.upsert(COLLECTION, [point(number % 1_000) for number in range(1_000)], wait=True)
        await client.upsert(COLLECTION, [point(number) for number in range(1_000, 2_000)], wait=True)
        await client.delete(COLLECTION, list(range(1_000)), wait=True)
        async with asyncio.timeout(30):
            while not server.log("optimised"):
                assert (await client.count(COLLECTION)).count == 1_000
        await client.close()
    finally:
        server.stop()
