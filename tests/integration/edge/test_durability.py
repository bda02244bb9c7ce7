"""What was acknowledged is there: after kill -9, and in a copy of the folder taken at the acknowledgement."""

import asyncio
import shutil
from pathlib import Path

from integration.edge.edge_server import COLLECTION, EdgeServer, point
from qdrant_client import AsyncQdrantClient, models


async def write_everything(client: AsyncQdrantClient) -> None:
    """One of each kind of write."""
    await client.upsert(COLLECTION, [point(number) for number in range(50)], wait=True)
    await client.create_payload_index(COLLECTION, "tenant", models.PayloadSchemaType.KEYWORD, wait=True)
    await client.set_payload(COLLECTION, {"gen_to": 2}, points=[7], wait=True)
    await client.delete(COLLECTION, [8, 9], wait=True)


async def assert_everything(client: AsyncQdrantClient) -> None:
    page, _ = await client.scroll(COLLECTION, limit=100)
    assert [record.id for record in page] == [number for number in range(50) if number not in {8, 9}]
    assert [record.id for record in page if record.payload["gen_to"] == 2] == [7]
    info = await client.get_collection(COLLECTION)
    assert list(info.payload_schema) == ["tenant"]


async def test_acknowledged_writes_survive_kill_9(server: EdgeServer, client: AsyncQdrantClient):
    """A process killed right after the last acknowledgement has lost nothing."""
    await write_everything(client)
    server.kill_and_start()
    restarted = server.client()
    await assert_everything(restarted)
    await restarted.close()


async def test_acknowledged_writes_are_in_a_copy_without_the_log(
    server: EdgeServer, client: AsyncQdrantClient, tmp_path: Path
):
    """A copy taken while the server runs, with the write-ahead log removed, holds everything: it was flushed, not only logged.

    kill -9 alone proves little, as the operating system keeps what the process wrote to files and maps.
    """
    await write_everything(client)
    copy = EdgeServer(tmp_path / "copy")
    await asyncio.to_thread(shutil.copytree, server.data_dir, copy.data_dir)
    shutil.rmtree(copy.data_dir / "collections" / COLLECTION / "shard" / "wal")
    copy.start()
    try:
        copied = copy.client()
        await assert_everything(copied)
        await copied.close()
    finally:
        copy.stop()


async def test_writers_killed_in_the_middle_keep_what_was_acknowledged(server: EdgeServer, client: AsyncQdrantClient):
    """Kill -9 under concurrent writers: every acknowledged point is there, whole."""
    acknowledged: set[int] = set()
    enough = asyncio.Event()

    async def write(first: int) -> None:
        for number in range(first, 10_000, 8):
            await client.upsert(COLLECTION, [point(number)], wait=True)
            acknowledged.add(number)
            if len(acknowledged) >= 40:
                enough.set()

    writers = [asyncio.create_task(write(first)) for first in range(8)]
    async with asyncio.timeout(60):
        await enough.wait()
    server.stop(9)
    await asyncio.gather(*writers, return_exceptions=True)
    server.start()
    restarted = server.client()
    found = await restarted.retrieve(COLLECTION, sorted(acknowledged), with_vectors=True)
    assert {record.id for record in found} == acknowledged
    assert all(set(record.vector) == {"dense", "bm25"} for record in found)
    await restarted.close()


async def test_unwaited_write_is_answered_before_it_is_safe_and_flushed_soon(
    server: EdgeServer, client: AsyncQdrantClient
):
    """`wait=False` answers Acknowledged; a later waiting write takes it to the disk as well."""
    result = await client.upsert(COLLECTION, [point(1)], wait=False)
    assert result.status == models.UpdateStatus.ACKNOWLEDGED
    result = await client.upsert(COLLECTION, [point(2)], wait=True)
    assert result.status == models.UpdateStatus.COMPLETED
    server.kill_and_start()
    restarted = server.client()
    assert (await restarted.count(COLLECTION)).count == 2
    await restarted.close()
