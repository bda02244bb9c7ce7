"""Points between protobuf and Edge: ids, vectors, payloads and what of them an answer carries."""

from collections.abc import Mapping, Sequence
from typing import cast
from uuid import UUID

from qdrant_client import grpc
from qdrant_client.conversions.conversion import payload_to_grpc
from qdrant_edge import PayloadSelector, Point, Record, ScoredPoint, SparseVector

from gannet_edge import validate
from gannet_edge.schema import CollectionSchema
from gannet_edge.validate import Json, Limits
from gannet_service.errors import InvalidInput, Unimplemented

VectorValue = list[float] | SparseVector


def point_id(message: grpc.PointId, field: str) -> int | str:
    """An unsigned number or a canonical UUID.

    Raises:
        InvalidInput: neither is given, or the UUID is malformed.
    """
    match message.WhichOneof("point_id_options"):
        case "num":
            return message.num
        case "uuid":
            return validate.point_uuid(message.uuid, field)
        case _:
            raise InvalidInput(f"{field}: the id is empty", field=field)


def point_ids(messages: Sequence[grpc.PointId], limits: Limits, field: str) -> list[int | str]:
    """At least one and at most `limits.ids` ids."""
    validate.size(field, len(messages), limits.ids, least=1)
    return [point_id(message, f"{field}[{at}]") for at, message in enumerate(messages)]


def to_points(messages: Sequence[grpc.PointStruct], schema: CollectionSchema, limits: Limits) -> list[Point]:
    """Convert and check every point; nothing is written unless all are good.

    Raises:
        InvalidInput: names the point, the part of it and the limit.
    """
    validate.size("points", len(messages), limits.upsert_points, least=1)
    return [_point(message, schema, limits, f"points[{at}]") for at, message in enumerate(messages)]


def _point(message: grpc.PointStruct, schema: CollectionSchema, limits: Limits, field: str) -> Point:
    if message.vectors.WhichOneof("vectors_options") != "vectors":
        raise InvalidInput(f"{field}.vectors: give every vector by name", field=f"{field}.vectors")
    named = message.vectors.vectors.vectors
    vectors = {
        name: _stored_vector(named[name], name, schema, limits, f"{field}.vectors.{name[:64]}") for name in named
    }
    return Point(
        id=point_id(message.id, f"{field}.id"),
        vector=cast("dict[str, list[float] | SparseVector | list[list[float]]]", vectors),
        payload=to_payload(message.payload, limits, f"{field}.payload"),
    )


def _stored_vector(
    message: grpc.Vector, name: str, schema: CollectionSchema, limits: Limits, field: str
) -> VectorValue:
    match message.WhichOneof("vector"):
        case "dense":
            return dense_vector(message.dense.data, name, schema, field)
        case "sparse":
            return sparse_vector(message.sparse, name, schema, limits, field)
        case None:
            raise InvalidInput(f"{field}: give a `dense` or a `sparse` vector", field=field)
        case other:
            raise Unimplemented(f"{field}: the embedded Qdrant stores no {other!r} vectors")


def dense_vector(data: Sequence[float], name: str, schema: CollectionSchema, field: str) -> list[float]:
    """A checked dense vector."""
    values = list(data)
    validate.dense(values, name, schema, field)
    return values


def sparse_vector(
    message: grpc.SparseVector, name: str, schema: CollectionSchema, limits: Limits, field: str
) -> SparseVector:
    """A checked sparse vector."""
    indices, values = list(message.indices), list(message.values)
    validate.sparse(indices, values, name, schema, limits=limits, field=field)
    return SparseVector(indices=indices, values=values)


def to_payload(message: Mapping[str, grpc.Value], limits: Limits, field: str) -> dict[str, Json]:
    """A checked payload."""
    size_bytes = sum(len(key) + value.ByteSize() for key, value in message.items())
    payload: dict[str, Json] = {key: _json(value) for key, value in message.items()}
    validate.payload(payload, size_bytes, limits, field)
    return payload


def _json(value: grpc.Value) -> Json:
    """The client library has this conversion too, but it turns NaN into the text "NaN" and nobody would notice."""
    match value.WhichOneof("kind"):
        case "struct_value":
            return {key: _json(inner) for key, inner in value.struct_value.fields.items()}
        case "list_value":
            return [_json(inner) for inner in value.list_value.values]
        case None | "null_value":
            return None
        case kind:
            return getattr(value, kind)


def payload_selector(message: grpc.WithPayloadSelector) -> bool | PayloadSelector:
    """Which payload fields to answer with; an empty message means none."""
    match message.WhichOneof("selector_options"):
        case "include":
            return PayloadSelector.Include(list(message.include.fields))
        case "exclude":
            return PayloadSelector.Exclude(list(message.exclude.fields))
        case _:
            return message.enable


def vectors_selector(message: grpc.WithVectorsSelector, schema: CollectionSchema) -> bool | list[str]:
    """Which vectors to answer with; an empty message means none."""
    if message.WhichOneof("selector_options") != "include":
        return message.enable
    names = list(message.include.names)
    unknown = set(names) - set(schema.dense) - set(schema.sparse)
    if unknown:
        raise InvalidInput(f"with_vectors: no vector is named {min(unknown)[:64]!r}", field="with_vectors")
    return names


def id_message(value: int | str | UUID) -> grpc.PointId:
    """The protobuf form of an id."""
    return grpc.PointId(num=value) if isinstance(value, int) else grpc.PointId(uuid=str(value))


def record_message(record: Record) -> grpc.RetrievedPoint:
    """The protobuf form of a stored point."""
    return grpc.RetrievedPoint(
        id=id_message(record.id), payload=payload_to_grpc(record.payload or {}), vectors=_vectors_message(record.vector)
    )


def scored_message(point: ScoredPoint) -> grpc.ScoredPoint:
    """The protobuf form of a search result."""
    return grpc.ScoredPoint(
        id=id_message(point.id),
        payload=payload_to_grpc(point.payload or {}),
        score=point.score,
        version=point.version,
        vectors=_vectors_message(point.vector),
    )


def _vectors_message(vectors: object) -> grpc.VectorsOutput | None:
    if vectors is None:
        return None
    named = cast("Mapping[str, VectorValue]", vectors)
    return grpc.VectorsOutput(
        vectors=grpc.NamedVectorsOutput(vectors={name: _vector_message(vector) for name, vector in named.items()})
    )


def _vector_message(vector: VectorValue) -> grpc.VectorOutput:
    if isinstance(vector, SparseVector):
        return grpc.VectorOutput(sparse=grpc.SparseVector(indices=vector.indices, values=vector.values))
    return grpc.VectorOutput(dense=grpc.DenseVector(data=vector))
