"""Qdrant's `Points` service: validate, ask Edge, answer. A write is acknowledged after it is on disk, unless `wait` is false."""

import time
from typing import Any, Protocol
from uuid import UUID

from qdrant_client import grpc
from qdrant_client.grpc import PointsServicer as Base
from qdrant_edge import (
    CountRequest,
    Filter,
    IntegerIndexParams,
    KeywordIndexParams,
    PayloadSchemaType,
    QueryBatchRequest,
    ScrollRequest,
    UpdateOperation,
)
from typing_extensions import override

from gannet_edge import validate
from gannet_edge.filters import to_filter
from gannet_edge.points import (
    id_message,
    payload_selector,
    point_id,
    point_ids,
    record_message,
    scored_message,
    to_payload,
    to_points,
    vectors_selector,
)
from gannet_edge.queries import LIMIT_DEFAULT, Against, to_query
from gannet_edge.store import Collection, Store
from gannet_edge.unimplemented import refuse_the_rest
from gannet_service.errors import InvalidInput, NotFound, Overloaded, Unimplemented

MATCHED_PAGE = 10_000

PointId = int | str | UUID

_FIELD_TYPES = {
    grpc.FieldType.FieldTypeKeyword: PayloadSchemaType.Keyword,
    grpc.FieldType.FieldTypeInteger: PayloadSchemaType.Integer,
    grpc.FieldType.FieldTypeFloat: PayloadSchemaType.Float,
    grpc.FieldType.FieldTypeDatetime: PayloadSchemaType.Datetime,
    grpc.FieldType.FieldTypeUuid: PayloadSchemaType.Uuid,
}


class _Write(Protocol):
    """What every write request has."""

    @property
    def wait(self) -> bool: ...
    def HasField(self, field_name: Any, /) -> bool: ...  # noqa: N802 - protobuf's name


@refuse_the_rest
class PointsServicer(Base):
    """See the module. Options about replicas (ordering, read consistency) are met by the only copy and not looked at."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @override
    async def Upsert(self, request: grpc.UpsertPoints, context: object) -> grpc.PointsOperationResponse:
        """Insert or replace points; all of them or none."""
        started = time.monotonic()
        collection = self._store.to_write(request.collection_name)
        if request.HasField("update_filter") or request.update_mode:
            raise Unimplemented("update_filter, update_mode: the embedded Qdrant always inserts or replaces")
        limits = self._store.limits
        points = to_points(request.points, collection.schema, limits)
        stored = collection.info().points_count
        if stored + len(points) > limits.points:
            raise Overloaded(
                f"collection {collection.name!r} has {stored} points, with {len(points)} more it would exceed {limits.points}",
                reason="POINTS_MAX",
            )
        collection.write(UpdateOperation.upsert_points(points), points=len(points))
        return await _acknowledge(collection, request, started)

    @override
    async def Delete(self, request: grpc.DeletePoints, context: object) -> grpc.PointsOperationResponse:
        """Delete points by id or by filter; ids that do not exist are no error."""
        started = time.monotonic()
        collection = self._store.collection(request.collection_name)
        limits = self._store.limits
        match request.points.WhichOneof("points_selector_one_of"):
            case "points":
                ids = point_ids(request.points.points.ids, limits, "points")
                collection.write(UpdateOperation.delete_points(list(ids)), points=len(ids))
            case "filter":
                chosen_ids = _matching(collection, to_filter(request.points.filter, limits))
                collection.write(UpdateOperation.delete_points(chosen_ids), points=len(chosen_ids))
            case _:
                raise InvalidInput("points: give ids or a filter", field="points")
        return await _acknowledge(collection, request, started)

    @override
    async def SetPayload(self, request: grpc.SetPayloadPoints, context: object) -> grpc.PointsOperationResponse:
        """Merge fields into the payload of points chosen by id or by filter."""
        started = time.monotonic()
        collection = self._store.to_write(request.collection_name)
        if request.HasField("key"):
            raise Unimplemented("key: the embedded Qdrant sets top-level fields only")
        limits = self._store.limits
        payload = to_payload(request.payload, limits, "payload")
        match request.points_selector.WhichOneof("points_selector_one_of"):
            case "points":
                ids = point_ids(request.points_selector.points.ids, limits, "points_selector")
                _refuse_missing(collection, ids)
                collection.write(UpdateOperation.set_payload(list(ids), payload), points=len(ids))
            case "filter":
                chosen_ids = _matching(collection, to_filter(request.points_selector.filter, limits))
                collection.write(UpdateOperation.set_payload(chosen_ids, payload), points=len(chosen_ids))
            case _:
                raise InvalidInput("points_selector: give ids or a filter", field="points_selector")
        return await _acknowledge(collection, request, started)

    @override
    async def CreateFieldIndex(
        self, request: grpc.CreateFieldIndexCollection, context: object
    ) -> grpc.PointsOperationResponse:
        """Index a payload field; the same index twice is no error."""
        started = time.monotonic()
        collection = self._store.to_write(request.collection_name)
        collection.write(_index_operation(request), points=1)
        return await _acknowledge(collection, request, started)

    @override
    async def Get(self, request: grpc.GetPoints, context: object) -> grpc.GetResponse:
        """The points with these ids; ids that do not exist are left out."""
        started = time.monotonic()
        collection = self._store.collection(request.collection_name)
        ids = point_ids(request.ids, self._store.limits, "ids")
        payload, vectors = (
            payload_selector(request.with_payload),
            vectors_selector(request.with_vectors, collection.schema),
        )
        records = collection.read(lambda shard: shard.retrieve(list(ids), payload, vectors))
        return grpc.GetResponse(result=map(record_message, records), time=time.monotonic() - started)

    @override
    async def Scroll(self, request: grpc.ScrollPoints, context: object) -> grpc.ScrollResponse:
        """A page of points in the order of their ids."""
        started = time.monotonic()
        collection = self._store.collection(request.collection_name)
        if request.HasField("order_by"):
            raise Unimplemented("order_by: the embedded Qdrant pages in the order of ids")
        limits = self._store.limits
        limit = request.limit if request.HasField("limit") else LIMIT_DEFAULT
        page = ScrollRequest(
            offset=point_id(request.offset, "offset") if request.HasField("offset") else None,
            limit=validate.size("limit", limit, limits.results, least=1),
            filter=to_filter(request.filter, limits) if request.HasField("filter") else None,
            with_payload=payload_selector(request.with_payload),
            with_vector=vectors_selector(request.with_vectors, collection.schema),
        )
        records, following = collection.read(lambda shard: shard.scroll(page))
        return grpc.ScrollResponse(
            result=map(record_message, records),
            next_page_offset=None if following is None else id_message(following),
            time=time.monotonic() - started,
        )

    @override
    async def Count(self, request: grpc.CountPoints, context: object) -> grpc.CountResponse:
        """The exact number of points, of those that match the filter if there is one."""
        started = time.monotonic()
        collection = self._store.collection(request.collection_name)
        chosen = to_filter(request.filter, self._store.limits) if request.HasField("filter") else None
        count = collection.read(lambda shard: shard.count(CountRequest(exact=True, filter=chosen)))
        return grpc.CountResponse(result=grpc.CountResult(count=count), time=time.monotonic() - started)

    @override
    async def Query(self, request: grpc.QueryPoints, context: object) -> grpc.QueryResponse:
        """The points nearest to a vector, or the fusion of several such searches."""
        started = time.monotonic()
        collection = self._store.collection(request.collection_name)
        query = to_query(request, self._against(collection))
        points = collection.read(lambda shard: shard.query(query))
        return grpc.QueryResponse(result=map(scored_message, points), time=time.monotonic() - started)

    @override
    async def QueryBatch(self, request: grpc.QueryBatchPoints, context: object) -> grpc.QueryBatchResponse:
        """Several queries of one collection at once."""
        started = time.monotonic()
        collection = self._store.collection(request.collection_name)
        limits = self._store.limits
        validate.size("query_points", len(request.query_points), limits.batch_queries, least=1)
        against = self._against(collection)
        batch = QueryBatchRequest([to_query(query, against) for query in request.query_points])
        answers = collection.read(lambda shard: shard.query_batch(batch))
        return grpc.QueryBatchResponse(
            result=(grpc.BatchResult(result=map(scored_message, points)) for points in answers),
            time=time.monotonic() - started,
        )

    def _against(self, collection: Collection) -> Against:
        limits = self._store.limits

        def met_by_all(condition: grpc.Condition) -> bool:
            met = to_filter(grpc.Filter(must=[condition]), limits)
            count = collection.read(lambda shard: shard.count(CountRequest(exact=True, filter=met)))
            return count == collection.read(lambda shard: shard.count(CountRequest(exact=True)))

        def needed(message: grpc.Filter) -> grpc.Filter | None:
            return collection.redundant.without(message, met_by_all)

        return Against(collection.schema, limits, needed)


async def _acknowledge(collection: Collection, request: _Write, started: float) -> grpc.PointsOperationResponse:
    """Answer `Completed` once the write is on disk; with `wait` given as false, answer `Acknowledged` before."""
    # Qdrant's default is not to wait. Here a write that was not asked to be careless is not.
    waits = request.wait or not request.HasField("wait")
    if waits:
        await collection.durable()
    status = grpc.UpdateStatus.Completed if waits else grpc.UpdateStatus.Acknowledged
    return grpc.PointsOperationResponse(result=grpc.UpdateResult(status=status), time=time.monotonic() - started)


def _matching(collection: Collection, chosen: Filter) -> list[PointId]:
    """The ids of the points that match.

    Edge's log must name points, not a filter: after a kill the indexes may be ahead of the payloads, a filter that is replayed on them
    then matches nothing, and an acknowledged change is lost.
    """
    ids: list[PointId] = []
    offset: PointId | None = None
    while True:
        page = ScrollRequest(offset=offset, limit=MATCHED_PAGE, filter=chosen, with_payload=False, with_vector=False)
        records, offset = collection.read(lambda shard, page=page: shard.scroll(page))
        ids += [record.id for record in records]
        if offset is None:
            return ids


def _refuse_missing(collection: Collection, ids: list[int | str]) -> None:
    """Edge would log the operation, apply it to some points and then fail on the first missing one."""
    found = {str(record.id) for record in collection.read(lambda shard: shard.retrieve(list(ids), False, False))}
    missing = [one for one in ids if str(one) not in found]
    if missing:
        raise NotFound(f"no point with id {missing[0]} ({len(missing)} of {len(ids)} missing)", field="points_selector")


def _index_operation(request: grpc.CreateFieldIndexCollection) -> UpdateOperation:
    schema: PayloadSchemaType | KeywordIndexParams | IntegerIndexParams | None
    params = request.field_index_params
    match params.WhichOneof("index_params"):
        case "keyword_index_params":
            schema = KeywordIndexParams(is_tenant=params.keyword_index_params.is_tenant)
        case "integer_index_params":
            integer = params.integer_index_params
            schema = IntegerIndexParams(
                lookup=integer.lookup if integer.HasField("lookup") else None,
                range=integer.range if integer.HasField("range") else None,
                is_principal=integer.is_principal,
            )
        case _:
            schema = _FIELD_TYPES.get(request.field_type)
    if schema is None:
        raise Unimplemented("field_type: the embedded Qdrant indexes keyword, integer, float, datetime and uuid")
    try:
        return UpdateOperation.create_field_index(request.field_name, schema)
    except ValueError as error:
        raise InvalidInput(f"field_name: {error}", field="field_name") from error
