"""Qdrant's `Collections` and `Qdrant` services."""

import time
from typing import cast

import structlog
from qdrant_client import grpc
from qdrant_client.grpc import CollectionsServicer as CollectionsBase
from qdrant_client.grpc import QdrantServicer as QdrantBase
from qdrant_edge import PayloadSchemaType
from typing_extensions import override

from gannet_edge import validate
from gannet_edge.schema import (
    DELETED_RATIO_MAX,
    FULL_SCAN_KB,
    HNSW_EF_CONSTRUCT,
    VACUUM_POINTS_MIN,
    CollectionSchema,
    DenseSchema,
    DistanceName,
    SparseSchema,
)
from gannet_edge.store import Collection, Store
from gannet_edge.unimplemented import refuse_the_rest
from gannet_service.errors import InvalidInput, Unimplemented

# The Qdrant server whose API this is: qdrant-edge-py 0.9.0 has the IDF corpus parameter that arrived in 1.19.
QDRANT_VERSION = "1.19.0"
NAMED_VECTORS_MAX = 16

_SCHEMA_TYPES = {
    str(edge): grpc_type
    for edge, grpc_type in (
        (PayloadSchemaType.Keyword, grpc.PayloadSchemaType.Keyword),
        (PayloadSchemaType.Integer, grpc.PayloadSchemaType.Integer),
        (PayloadSchemaType.Float, grpc.PayloadSchemaType.Float),
        (PayloadSchemaType.Datetime, grpc.PayloadSchemaType.Datetime),
        (PayloadSchemaType.Uuid, grpc.PayloadSchemaType.Uuid),
    )
}
# What a collection keeps of a request, and of each of its dense vectors.
_KEPT = {"collection_name", "vectors_config", "sparse_vectors_config", "timeout"}
_KEPT_OF_VECTOR = {"size", "distance", "datatype"}
WHY_IGNORED = "one node, exact search over plain segments"

_log: structlog.stdlib.BoundLogger = structlog.get_logger("collections")


@refuse_the_rest
class QdrantServicer(QdrantBase):
    """Says which Qdrant this is, so that a client can check the version."""

    @override
    async def HealthCheck(self, request: grpc.HealthCheckRequest, context: object) -> grpc.HealthCheckReply:
        """The API's version."""
        return grpc.HealthCheckReply(title="Gannet's embedded Qdrant", version=QDRANT_VERSION)


@refuse_the_rest
class CollectionsServicer(CollectionsBase):
    """Creates, describes and deletes collections."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @override
    async def Create(self, request: grpc.CreateCollection, context: object) -> grpc.CollectionOperationResponse:
        """Create a collection of named vectors."""
        started = time.monotonic()
        self._store.create(request.collection_name, to_schema(request))
        ignored = _ignored(request)
        if ignored:
            _log.info("settings ignored", collection=request.collection_name, settings=ignored, why=WHY_IGNORED)
        return grpc.CollectionOperationResponse(result=True, time=time.monotonic() - started)

    @override
    async def Delete(self, request: grpc.DeleteCollection, context: object) -> grpc.CollectionOperationResponse:
        """Delete a collection; `result` is false if there was none."""
        started = time.monotonic()
        deleted = self._store.delete(request.collection_name)
        return grpc.CollectionOperationResponse(result=deleted, time=time.monotonic() - started)

    @override
    async def Get(self, request: grpc.GetCollectionInfoRequest, context: object) -> grpc.GetCollectionInfoResponse:
        """Describe a collection."""
        started = time.monotonic()
        info = _info_message(self._store.collection(request.collection_name))
        return grpc.GetCollectionInfoResponse(result=info, time=time.monotonic() - started)

    @override
    async def List(self, request: grpc.ListCollectionsRequest, context: object) -> grpc.ListCollectionsResponse:
        """The names of all collections."""
        started = time.monotonic()
        names = (grpc.CollectionDescription(name=collection.name) for collection in self._store.collections)
        return grpc.ListCollectionsResponse(collections=names, time=time.monotonic() - started)

    @override
    async def CollectionExists(
        self, request: grpc.CollectionExistsRequest, context: object
    ) -> grpc.CollectionExistsResponse:
        """Whether a collection exists."""
        started = time.monotonic()
        exists = self._store.exists(validate.collection_name(request.collection_name))
        return grpc.CollectionExistsResponse(
            result=grpc.CollectionExists(exists=exists), time=time.monotonic() - started
        )


def to_schema(request: grpc.CreateCollection) -> CollectionSchema:
    """The vectors that `request` asks for.

    Raises:
        InvalidInput: names the field and the limit.
        Unimplemented: an unnamed vector, multivectors, or a datatype other than float32.
    """
    if request.vectors_config.WhichOneof("config") == "params":
        raise Unimplemented("vectors_config: the embedded Qdrant stores named vectors only")
    dense = {name: _dense(name, params) for name, params in request.vectors_config.params_map.map.items()}
    sparse = {
        _vector_name(name): SparseSchema(idf=params.modifier == grpc.Modifier.Idf)
        for name, params in request.sparse_vectors_config.map.items()
    }
    validate.size("vectors_config", len(dense) + len(sparse), NAMED_VECTORS_MAX, least=1)
    return CollectionSchema(dense=dense, sparse=sparse)


def _ignored(request: grpc.CreateCollection) -> list[str]:
    """The settings that are given and change nothing here."""
    names = {descriptor.name for descriptor, _ in request.ListFields()} - _KEPT
    for vector, params in request.vectors_config.params_map.map.items():
        given = {descriptor.name for descriptor, _ in params.ListFields()} - _KEPT_OF_VECTOR
        names |= {f"vectors_config.{vector}.{name}" for name in given}
    return sorted(names)


def _dense(name: str, params: grpc.VectorParams) -> DenseSchema:
    field = f"vectors_config.{_vector_name(name)}"
    if params.HasField("multivector_config") or params.datatype not in (grpc.Datatype.Default, grpc.Datatype.Float32):
        raise Unimplemented(f"{field}: the embedded Qdrant stores single float32 vectors")
    if params.distance == grpc.Distance.UnknownDistance:
        raise InvalidInput(f"{field}.distance: must be given", field=f"{field}.distance")
    return DenseSchema(
        size=validate.size(f"{field}.size", params.size, validate.DIMENSION_MAX, least=1),
        distance=cast("DistanceName", grpc.Distance.Name(params.distance)),
    )


def _vector_name(name: str) -> str:
    if not name.replace("-", "_").isidentifier() or len(name) > 64:
        problem = f"vectors_config: {name[:64]!r} is no name of 1 to 64 letters, digits, '_' and '-'"
        raise InvalidInput(problem, field="vectors_config")
    return name


def _info_message(collection: Collection) -> grpc.CollectionInfo:
    info, schema = collection.info(), collection.schema
    dense = {
        name: grpc.VectorParams(size=params.size, distance=grpc.Distance.Value(params.distance))
        for name, params in schema.dense.items()
    }
    sparse = {
        name: grpc.SparseVectorParams(modifier=grpc.Modifier.Idf if params.idf else None)
        for name, params in schema.sparse.items()
    }
    params = grpc.CollectionParams(
        shard_number=1,
        replication_factor=1,
        vectors_config=grpc.VectorsConfig(params_map=grpc.VectorParamsMap(map=dense)),
        sparse_vectors_config=grpc.SparseVectorConfig(map=sparse),
    )
    indexes = {
        name: grpc.PayloadSchemaInfo(
            data_type=_SCHEMA_TYPES.get(str(index.data_type), grpc.PayloadSchemaType.UnknownType), points=index.points
        )
        for name, index in info.payload_schema.items()
    }
    return grpc.CollectionInfo(
        status=grpc.CollectionStatus.Green,
        optimizer_status=grpc.OptimizerStatus(ok=True),
        segments_count=info.segments_count,
        points_count=info.points_count,
        indexed_vectors_count=info.indexed_vectors_count,
        config=grpc.CollectionConfig(
            params=params,
            hnsw_config=grpc.HnswConfigDiff(m=0, ef_construct=HNSW_EF_CONSTRUCT, full_scan_threshold=FULL_SCAN_KB),
            optimizer_config=grpc.OptimizersConfigDiff(
                deleted_threshold=DELETED_RATIO_MAX,
                vacuum_min_vector_number=VACUUM_POINTS_MIN,
                default_segment_number=1,
                flush_interval_sec=0,
            ),
            wal_config=grpc.WalConfigDiff(wal_capacity_mb=32, wal_segments_ahead=0),
        ),
        payload_schema=indexes,
    )
