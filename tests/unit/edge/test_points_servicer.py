from pathlib import Path
from typing import Any

import pytest
from qdrant_client import grpc
from qdrant_edge import CountRequest, UpdateOperation

from gannet_edge import points_servicer
from gannet_edge.points_servicer import PointsServicer
from gannet_edge.schema import CollectionSchema, DenseSchema
from gannet_edge.store import Store
from gannet_edge.validate import Limits

SCHEMA = CollectionSchema(dense={"dense": DenseSchema(size=2, distance="Cosine")}, sparse={})


class Named:
    """Edge's operations on points that are named, recorded; there are none on points that match a filter."""

    operations: list[tuple[str, list[Any]]]

    def __init__(self) -> None:
        self.operations = []

    def set_payload(self, ids: list[Any], payload: dict[str, Any]) -> UpdateOperation:
        self.operations.append(("set_payload", ids))
        return UpdateOperation.set_payload(ids, payload)

    def delete_points(self, ids: list[Any]) -> UpdateOperation:
        self.operations.append(("delete_points", ids))
        return UpdateOperation.delete_points(ids)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A real store with points 1 to 5; the odd ones are red."""
    store = Store(tmp_path, Limits(), 10_000)
    store.create("chunks", SCHEMA)
    return store


def _points() -> list[grpc.PointStruct]:
    return [
        grpc.PointStruct(
            id=grpc.PointId(num=number),
            vectors=grpc.Vectors(
                vectors=grpc.NamedVectors(
                    vectors={"dense": grpc.Vector(dense=grpc.DenseVector(data=[1, float(number)]))}
                )
            ),
            payload={"color": grpc.Value(string_value="red" if number % 2 else "blue")},
        )
        for number in range(1, 6)
    ]


def _color(color: str) -> grpc.Filter:
    match = grpc.FieldCondition(key="color", match=grpc.Match(keyword=color))
    return grpc.Filter(must=[grpc.Condition(field=match)])


async def test_changes_by_filter_name_their_points_in_the_log(store: Store, monkeypatch: pytest.MonkeyPatch):
    """A filter that is replayed after a kill may match nothing: the log has the ids that it matched, over all pages."""
    monkeypatch.setattr(points_servicer, "MATCHED_PAGE", 2)
    servicer, named = PointsServicer(store), Named()
    await servicer.Upsert(grpc.UpsertPoints(collection_name="chunks", points=_points(), wait=True), None)
    monkeypatch.setattr(points_servicer, "UpdateOperation", named)
    change = grpc.SetPayloadPoints(
        collection_name="chunks",
        payload={"color": grpc.Value(string_value="green")},
        points_selector=grpc.PointsSelector(filter=_color("red")),
        wait=True,
    )
    await servicer.SetPayload(change, None)
    chosen = grpc.PointsSelector(filter=_color("green"))
    await servicer.Delete(grpc.DeletePoints(collection_name="chunks", points=chosen, wait=True), None)
    assert named.operations == [("set_payload", [1, 3, 5]), ("delete_points", [1, 3, 5])]
    assert store.collection("chunks").read(lambda shard: shard.count(CountRequest(exact=True))) == 2
    store.close()
