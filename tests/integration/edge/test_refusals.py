"""Bad input is refused by name before it reaches Edge's log: nothing changes, and nothing appears after a crash."""

import math

import grpc
import pytest
from integration.edge.edge_server import COLLECTION, EdgeServer, create, point
from qdrant_client import AsyncQdrantClient
from qdrant_client import grpc as qdrant

DENSE = qdrant.Vector(dense=qdrant.DenseVector(data=[1, 0, 0, 0]))


def struct(vectors, payload=None, identifier=None) -> qdrant.PointStruct:
    return qdrant.PointStruct(
        id=identifier or qdrant.PointId(num=1),
        vectors=qdrant.Vectors(vectors=qdrant.NamedVectors(vectors=vectors)),
        payload=payload or {},
    )


def dense(*values: float) -> qdrant.Vector:
    return qdrant.Vector(dense=qdrant.DenseVector(data=values))


def sparse(indices: list[int], values: list[float]) -> qdrant.Vector:
    return qdrant.Vector(sparse=qdrant.SparseVector(indices=indices, values=values))


def nested(depth: int) -> qdrant.Value:
    value = qdrant.Value(integer_value=1)
    for _ in range(depth):
        value = qdrant.Value(list_value=qdrant.ListValue(values=[value]))
    return value


POISON = {
    "unknown vector": (struct({"dance": DENSE}), "points[1].vectors.dance"),
    "wrong dimension": (struct({"dense": dense(1, 2, 3)}), "points[1].vectors.dense"),
    "NaN": (struct({"dense": dense(math.nan, 0, 0, 0)}), "points[1].vectors.dense"),
    "infinity": (struct({"dense": dense(math.inf, 0, 0, 0)}), "points[1].vectors.dense"),
    "overflowing norm": (struct({"dense": dense(3e38, 3e38, 0, 0)}), "points[1].vectors.dense"),
    "dense for sparse": (struct({"bm25": DENSE}), "points[1].vectors.bm25"),
    "sparse for dense": (struct({"dense": sparse([1], [1])}), "points[1].vectors.dense"),
    "empty vector": (struct({"dense": qdrant.Vector()}), "points[1].vectors.dense"),
    "sparse duplicate": (struct({"bm25": sparse([1, 1], [1, 1])}), "points[1].vectors.bm25"),
    "sparse unsorted": (struct({"bm25": sparse([2, 1], [1, 1])}), "points[1].vectors.bm25"),
    "sparse length": (struct({"bm25": sparse([1, 2], [1])}), "points[1].vectors.bm25"),
    "sparse NaN": (struct({"bm25": sparse([1], [math.nan])}), "points[1].vectors.bm25"),
    "sparse terms": (struct({"bm25": sparse(list(range(4097)), [1.0] * 4097)}), "points[1].vectors.bm25"),
    "empty id": (struct({"dense": DENSE}, identifier=qdrant.PointId()), "points[1].id"),
    "bad UUID": (struct({"dense": DENSE}, identifier=qdrant.PointId(uuid="not-one")), "points[1].id"),
    "deep payload": (struct({"dense": DENSE}, {"deep": nested(17)}), "points[1].payload"),
    "large payload": (struct({"dense": DENSE}, {"x": qdrant.Value(string_value="x" * (1 << 18))}), "points[1].payload"),
    "payload NaN": (struct({"dense": DENSE}, {"x": qdrant.Value(double_value=math.nan)}), "points[1].payload"),
    "unnamed vector": (
        qdrant.PointStruct(id=qdrant.PointId(num=1), vectors=qdrant.Vectors(vector=DENSE)),
        "points[1].vectors",
    ),
}


async def refused(call) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def contents(client: AsyncQdrantClient) -> list[object]:
    page, _ = await client.scroll(COLLECTION, limit=100, with_vectors=True)
    count = (await client.count(COLLECTION)).count
    return [count, *((record.id, record.payload, record.vector) for record in page)]


async def test_upsert_of_poison_changes_nothing_even_after_a_crash(server: EdgeServer, client: AsyncQdrantClient):
    """A batch with one bad point is refused whole, by the point's index and field; after kill -9 nothing of it is there."""
    await client.upsert(COLLECTION, [point(1), point(2)], wait=True)
    before = await contents(client)
    for name, (poison, field) in POISON.items():
        good = struct({"dense": DENSE}, identifier=qdrant.PointId(num=77))
        request = qdrant.UpsertPoints(collection_name=COLLECTION, wait=True, points=[good, poison])
        error = await refused(client.grpc_points.Upsert(request))
        assert (name, error.code()) == (name, grpc.StatusCode.INVALID_ARGUMENT)
        assert (name, error.details().startswith(field)) == (name, True)
        assert (name, await contents(client)) == (name, before)
    server.kill_and_start()
    restarted = server.client()
    assert await contents(restarted) == before
    await restarted.upsert(COLLECTION, [point(3)], wait=True)
    assert (await restarted.count(COLLECTION)).count == 3
    await restarted.close()


async def test_other_refused_writes_change_nothing_even_after_a_crash(server: EdgeServer, client: AsyncQdrantClient):
    """The same for payload updates, deletions and indexes."""
    await client.upsert(COLLECTION, [point(1), point(2)], wait=True)
    before = await contents(client)
    points = client.grpc_points
    ids = qdrant.PointsSelector(points=qdrant.PointsIdsList(ids=[qdrant.PointId(num=1), qdrant.PointId(num=99)]))
    none = qdrant.PointsSelector(points=qdrant.PointsIdsList())
    key = qdrant.Condition(field=qdrant.FieldCondition(key="a..b", match=qdrant.Match(integer=1)))
    malformed = qdrant.PointsSelector(filter=qdrant.Filter(must=[key]))
    value = {"x": qdrant.Value(integer_value=1)}
    codes = grpc.StatusCode
    calls = {
        "missing point": (
            points.SetPayload(qdrant.SetPayloadPoints(collection_name=COLLECTION, payload=value, points_selector=ids)),
            codes.NOT_FOUND,
        ),
        "no ids": (
            points.SetPayload(qdrant.SetPayloadPoints(collection_name=COLLECTION, payload=value, points_selector=none)),
            codes.INVALID_ARGUMENT,
        ),
        "no selector": (
            points.SetPayload(qdrant.SetPayloadPoints(collection_name=COLLECTION, payload=value)),
            codes.INVALID_ARGUMENT,
        ),
        "deep": (
            points.SetPayload(
                qdrant.SetPayloadPoints(
                    collection_name=COLLECTION, payload={"x": nested(17)}, points_selector=malformed
                )
            ),
            codes.INVALID_ARGUMENT,
        ),
        "set by bad key": (
            points.SetPayload(
                qdrant.SetPayloadPoints(collection_name=COLLECTION, payload=value, points_selector=malformed)
            ),
            codes.INVALID_ARGUMENT,
        ),
        "delete by bad key": (
            points.Delete(qdrant.DeletePoints(collection_name=COLLECTION, points=malformed)),
            codes.INVALID_ARGUMENT,
        ),
        "delete nothing": (points.Delete(qdrant.DeletePoints(collection_name=COLLECTION)), codes.INVALID_ARGUMENT),
        "bad index key": (
            points.CreateFieldIndex(qdrant.CreateFieldIndexCollection(collection_name=COLLECTION, field_name="a..")),
            codes.INVALID_ARGUMENT,
        ),
        "text index": (
            points.CreateFieldIndex(
                qdrant.CreateFieldIndexCollection(
                    collection_name=COLLECTION, field_name="a", field_type=qdrant.FieldType.FieldTypeText
                )
            ),
            codes.UNIMPLEMENTED,
        ),
        "no such collection": (points.Upsert(qdrant.UpsertPoints(collection_name="nope")), codes.NOT_FOUND),
        "path as name": (points.Upsert(qdrant.UpsertPoints(collection_name="../chunks")), codes.INVALID_ARGUMENT),
    }
    got = {name: (await refused(call)).code() for name, (call, _) in calls.items()}
    assert got == {name: code for name, (_, code) in calls.items()}
    assert await contents(client) == before
    server.kill_and_start()
    restarted = server.client()
    assert await contents(restarted) == before
    await restarted.close()


def query(**fields) -> qdrant.QueryPoints:
    nearest = qdrant.Query(nearest=qdrant.VectorInput(dense=qdrant.DenseVector(data=[1, 0, 0, 0])))
    return qdrant.QueryPoints(**{"collection_name": COLLECTION, "query": nearest, "using": "dense", **fields})


PREFETCH = qdrant.PrefetchQuery(query=query().query, using="dense")
RRF = qdrant.Query(rrf=qdrant.Rrf(k=60, weights=[1.0, 2.0]))
BAD_QUERIES = {
    "limit 0": (query(limit=0), "limit"),
    "limit too large": (query(limit=10_001), "limit"),
    "limit and offset": (query(limit=10_000, offset=1), "offset"),
    "unknown vector": (query(using="dance"), "query"),
    "no vector name": (query(using=""), "query"),
    "weights": (query(prefetch=[PREFETCH], query=RRF), "query.rrf.weights"),
    "too many prefetches": (query(prefetch=[PREFETCH] * 9, query=RRF), "prefetch"),
    "prefetch limit": (
        query(prefetch=[qdrant.PrefetchQuery(query=query().query, using="dense", limit=10**9)], query=RRF),
        "prefetch[0].limit",
    ),
    "threshold": (query(score_threshold=math.nan), "score_threshold"),
    "selector": (
        query(with_vectors=qdrant.WithVectorsSelector(include=qdrant.VectorsSelector(names=["dance"]))),
        "with_vectors",
    ),
    "conditions": (
        query(filter=qdrant.Filter(must=[qdrant.Condition(is_null=qdrant.IsNullCondition(key="a"))] * 257)),
        "filter",
    ),
    "idf on dense": (
        query(params=qdrant.SearchParams(idf=qdrant.IdfParams())),
        "Validation failed: search param `idf`",
    ),
}


async def test_query_out_of_bounds_is_refused_by_field(client: AsyncQdrantClient):
    """Every bound of a query answers INVALID_ARGUMENT and names itself."""
    for name, (request, field) in BAD_QUERIES.items():
        error = await refused(client.grpc_points.Query(request))
        assert (name, error.code()) == (name, grpc.StatusCode.INVALID_ARGUMENT)
        assert (name, error.details()[: len(field)]) == (name, field)


async def test_query_of_an_unserved_kind_is_unimplemented(client: AsyncQdrantClient):
    """What is not served says so, instead of answering something else."""
    requests = [
        query(query=qdrant.Query(sample=qdrant.Sample.Random)),
        query(query=qdrant.Query(nearest=qdrant.VectorInput(id=qdrant.PointId(num=1)))),
        query(prefetch=[PREFETCH]),
        query(filter=qdrant.Filter(must=[qdrant.Condition(has_vector=qdrant.HasVectorCondition(has_vector="dense"))])),
    ]
    codes = [(await refused(client.grpc_points.Query(request))).code() for request in requests]
    assert codes == [grpc.StatusCode.UNIMPLEMENTED] * len(requests)


async def test_unserved_rpcs_answer_unimplemented_by_name(client: AsyncQdrantClient):
    """Every other RPC of Qdrant's services names itself as not served."""
    facet = await refused(client.grpc_points.Facet(qdrant.FacetCounts(collection_name=COLLECTION)))
    update = await refused(client.grpc_collections.Update(qdrant.UpdateCollection(collection_name=COLLECTION)))
    assert [facet.code(), update.code()] == [grpc.StatusCode.UNIMPLEMENTED] * 2
    assert [facet.details().split()[0], update.details().split()[0]] == ["Points.Facet", "Collections.Update"]


async def test_message_over_the_limit_is_refused_and_the_server_lives(client: AsyncQdrantClient):
    """More bytes than `message_bytes_max` get RESOURCE_EXHAUSTED."""
    payload = {"x": qdrant.Value(string_value="x" * (17 << 20))}
    request = qdrant.UpsertPoints(collection_name=COLLECTION, points=[struct({"dense": DENSE}, payload)])
    error = await refused(client.grpc_points.Upsert(request))
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await client.count(COLLECTION)).count == 0


async def test_lists_out_of_bounds_are_refused_by_field(client: AsyncQdrantClient):
    """Points, ids and batched queries are bounded from both sides."""
    points = client.grpc_points
    ids = [qdrant.PointId(num=number) for number in range(10_001)]
    calls = {
        "points": [
            points.Upsert(qdrant.UpsertPoints(collection_name=COLLECTION, points=[struct({"dense": DENSE})] * count))
            for count in (0, 1_001)
        ],
        "ids": [points.Get(qdrant.GetPoints(collection_name=COLLECTION, ids=ids[:count])) for count in (0, 10_001)],
        "query_points": [
            points.QueryBatch(qdrant.QueryBatchPoints(collection_name=COLLECTION, query_points=[query()] * count))
            for count in (0, 65)
        ],
        "limit": [points.Scroll(qdrant.ScrollPoints(collection_name=COLLECTION, limit=limit)) for limit in (0, 10_001)],
    }
    for field, pair in calls.items():
        for call in pair:
            error = await refused(call)
            assert (field, error.code()) == (field, grpc.StatusCode.INVALID_ARGUMENT)
            assert (field, error.details().split(":")[0]) == (field, field)


async def test_upsert_beyond_points_max_is_refused(tmp_path):
    """A full collection stays as it is and says what its limit is."""
    small = EdgeServer(tmp_path / "data", points_max="2")
    small.start()
    client = small.client()
    try:
        await create(client)
        await client.upsert(COLLECTION, [point(1), point(2)], wait=True)
        error = await refused(client.upsert(COLLECTION, [point(3)], wait=True))
        assert (error.code(), error.details()) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "collection 'chunks' has 2 points, with 1 more it would exceed 2",
        )
        assert (await client.count(COLLECTION)).count == 2
        await client.close()
    finally:
        small.stop()
