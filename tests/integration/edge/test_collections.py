import grpc
import pytest
from integration.edge.edge_server import COLLECTION, EdgeServer, create, point
from qdrant_client import AsyncQdrantClient, models


async def test_create_with_cluster_settings_is_described_as_stored(server: EdgeServer, client: AsyncQdrantClient):
    """The settings of a cluster are accepted; the description says what is true here, the log what was ignored."""
    info = await client.get_collection(COLLECTION)
    params = info.config.params
    assert params.vectors == {"dense": models.VectorParams(size=4, distance=models.Distance.COSINE)}
    assert params.sparse_vectors == {"bm25": models.SparseVectorParams(modifier=models.Modifier.IDF)}
    assert (params.replication_factor, params.shard_number, info.points_count) == (1, 1, 0)
    (entry,) = server.log("settings ignored")
    assert entry["settings"] == [
        "replication_factor",
        "shard_number",
        "vectors_config.dense.hnsw_config",
        "vectors_config.dense.quantization_config",
        "write_consistency_factor",
    ]


async def test_create_of_an_existing_name_is_refused(client: AsyncQdrantClient):
    """ALREADY_EXISTS, and the collection stays as it is."""
    await client.upsert(COLLECTION, [point(1)], wait=True)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await create(client)
    assert caught.value.code() == grpc.StatusCode.ALREADY_EXISTS
    assert (await client.count(COLLECTION)).count == 1


async def test_delete_removes_the_collection_and_its_files(server: EdgeServer, client: AsyncQdrantClient):
    """A deleted collection is gone, its name is free, and others stay."""
    await create(client, "other")
    assert await client.delete_collection(COLLECTION)
    assert not await client.collection_exists(COLLECTION)
    assert [found.name for found in (await client.get_collections()).collections] == ["other"]
    assert [folder.name for folder in (server.data_dir / "collections").iterdir()] == ["other"]
    assert not await client.delete_collection(COLLECTION)
    await create(client)
    assert (await client.count(COLLECTION)).count == 0


async def test_collections_are_independent_and_survive_a_restart(server: EdgeServer, client: AsyncQdrantClient):
    """Two collections with the same ids stay apart, also after kill -9."""
    await create(client, "other")
    await client.upsert(COLLECTION, [point(1), point(2)], wait=True)
    await client.upsert("other", [point(1)], wait=True)
    server.kill_and_start()
    restarted = server.client()
    assert [(await restarted.count(name)).count for name in (COLLECTION, "other")] == [2, 1]
    await restarted.close()


async def test_start_removes_what_a_crash_left_half_made(server: EdgeServer, client: AsyncQdrantClient):
    """A folder that was being created or deleted is no collection."""
    half_made = server.data_dir / "collections" / ".half"
    half_made.mkdir()
    server.kill_and_start()
    assert not half_made.exists()
    restarted = server.client()
    assert await restarted.collection_exists(COLLECTION)
    await restarted.close()


@pytest.mark.parametrize(
    "vectors,code",
    [
        ({}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"a b": models.VectorParams(size=4, distance=models.Distance.DOT)}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"dense": models.VectorParams(size=65_537, distance=models.Distance.DOT)}, grpc.StatusCode.INVALID_ARGUMENT),
        (models.VectorParams(size=4, distance=models.Distance.DOT), grpc.StatusCode.UNIMPLEMENTED),
        (
            {
                "colbert": models.VectorParams(
                    size=4,
                    distance=models.Distance.DOT,
                    multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM),
                )
            },
            grpc.StatusCode.UNIMPLEMENTED,
        ),
    ],
    ids=["none", "name", "dimension", "unnamed", "multivector"],
)
async def test_create_of_what_cannot_be_stored_is_refused(client: AsyncQdrantClient, vectors, code):
    """No half collection is left behind."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.create_collection("refused", vectors_config=vectors)
    assert caught.value.code() == code
    assert not await client.collection_exists("refused")
