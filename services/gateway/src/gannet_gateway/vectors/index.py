"""Writes to Qdrant. Every write is acknowledged only when it is durable (`wait=True`)."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import grpc
import numpy as np
from pydantic import SecretStr
from qdrant_client import AsyncQdrantClient, models
from qdrant_client.http.exceptions import ApiException

from gannet_gateway.ledger.grouping import Grouped, in_requests
from gannet_gateway.ledger.records import Claim, Document, Publish
from gannet_gateway.names import CollectionName, DocumentName
from gannet_gateway.vectors.points import (
    DENSE,
    EVERYONE,
    GENERATION_NEVER,
    INTEGER_FIELDS,
    KEYWORD_FIELDS,
    SPARSE,
    PassagePoint,
    Sparse,
    StoredVectors,
)
from gannet_service import call
from gannet_service.errors import (
    AlreadyExists,
    DependencyUnavailable,
    GannetError,
    InvalidInput,
    NotFound,
    from_rpc_error,
)

T = TypeVar("T")

SERVER_VERSION_MIN = (1, 19)
UPSERT_POINTS_MAX = 128
STAMPED_MAX = 256


class VectorsMissing(DependencyUnavailable):
    """The vector store answers, and has lost what it held."""

    default_reason = "VECTORS_MISSING"


class VectorsRefused(DependencyUnavailable):
    """The vector store answers, and does not take what it was sent."""

    default_reason = "VECTORS_UNAVAILABLE"


def connect(url: str, api_key: SecretStr | None, timeout_s: float) -> AsyncQdrantClient:
    """A client for `url`, gRPC only; nothing is connected yet. `http://host:port` names the gRPC port itself."""
    target = url.removeprefix("http://").removeprefix("https://").rstrip("/")
    host, _, port = target.rpartition(":")
    return AsyncQdrantClient(
        host=host or target,
        grpc_port=int(port) if host else 6334,
        prefer_grpc=True,
        https=url.startswith("https://"),
        api_key=api_key.get_secret_value() if api_key else None,
        timeout=max(1, int(timeout_s)),
        # The version is checked by `Index.check_version`, over gRPC; the client's own check speaks HTTP.
        check_compatibility=False,
        grpc_options={
            "grpc.keepalive_time_ms": 1000,
            "grpc.keepalive_timeout_ms": 1000,
            "grpc.http2.ping_timeout_ms": 1000,
            "grpc.http2.max_pings_without_data": 0,
            "grpc.max_reconnect_backoff_ms": 1000,
        },
    )


async def ask(request: Awaitable[T]) -> T:
    """Await a Qdrant request and raise our errors for its own."""
    try:
        return await request
    except grpc.aio.AioRpcError as error:
        ours = from_rpc_error(error)
        if isinstance(ours, AlreadyExists):
            raise ours from error
        problem = f"vector store: {error.code().name}: {error.details()}"
        if isinstance(ours, NotFound):  # only a store that was wiped or restored does not know its collection
            raise VectorsMissing(problem) from error
        if isinstance(ours, InvalidInput):
            raise VectorsRefused(problem) from error
        raise DependencyUnavailable(problem, reason="VECTORS_UNAVAILABLE") from error
    except ApiException as error:
        raise DependencyUnavailable(f"vector store: {error}", reason="VECTORS_UNAVAILABLE") from error


class _Part(NamedTuple):
    """Passages of one document that go in one request."""

    name: str
    points: Sequence[PassagePoint]


class Index:
    """Stores and removes passages of one embedding model."""

    def __init__(self, client: AsyncQdrantClient, *, timeout_s: float, replication_factor: int) -> None:
        self._client = client
        self._timeout_s = timeout_s
        self._replication_factor = replication_factor
        # One request at a time: the embedded store writes forty files to disk for each, however many points it brings.
        self._upserts = Grouped[_Part, None](
            self._upsert, batch_max=UPSERT_POINTS_MAX, size=lambda part: len(part.points)
        )
        # Upserts in work, by the attempt whose passages they stage.
        self._staging: dict[str, asyncio.Future[None]] = {}

    async def probe(self) -> None:
        """Raises if the vector store does not answer."""
        await ask(self._client.info())

    async def check_version(self) -> None:
        """Refuse a server that cannot scope BM25's statistics to a tenant; raises RuntimeError."""
        version = (await ask(self._client.info())).version
        numbers = tuple(int(part) for part in version.split("-")[0].split(".")[:2])
        if numbers < SERVER_VERSION_MIN:
            needed = ".".join(map(str, SERVER_VERSION_MIN))
            raise RuntimeError(
                f"Qdrant {version} is too old: {needed} or newer is needed to scope BM25 statistics to a tenant"
            )

    async def ensure_collection(self, name: str, dim: int) -> None:
        """Create the Qdrant collection and its payload indexes unless they are there."""
        if not await ask(self._client.collection_exists(name)):
            with contextlib.suppress(AlreadyExists):  # another gateway was first
                await ask(self._create(name, dim))
        for field in KEYWORD_FIELDS:
            schema = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=field == "tenant")
            await ask(self._client.create_payload_index(name, field, schema, wait=True))
        for field in INTEGER_FIELDS:
            await ask(self._client.create_payload_index(name, field, models.PayloadSchemaType.INTEGER, wait=True))

    async def open_to_everyone(self, name: str) -> None:
        """Say of passages that were stored before there were readers that everyone reads them."""
        schema = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD)
        unnamed = models.Filter(must=[models.IsEmptyCondition(is_empty=models.PayloadField(key="readers"))])
        with contextlib.suppress(VectorsMissing):  # nothing is stored
            await ask(self._client.create_payload_index(name, "readers", schema, wait=True))
            await ask(
                self._client.set_payload(
                    name,
                    {"readers": [EVERYONE]},
                    models.FilterSelector(filter=unnamed),
                    wait=True,
                    ordering=models.WriteOrdering.STRONG,
                )
            )

    async def upsert(self, name: str, points: Sequence[PassagePoint]) -> None:
        """Stage the passages of an attempt, with those of other documents; returns when they are durable. Stops at the first failure.

        Who is cancelled leaves the request that is in work to the others: `delete_staged` waits for its end.
        """
        for at in range(0, len(points), UPSERT_POINTS_MAX):
            call.remaining_s(self._timeout_s)  # raises once the caller's deadline has passed
            part = _Part(name, points[at : at + UPSERT_POINTS_MAX])
            attempt = points[at].attempt
            staging = self._staging[attempt] = asyncio.ensure_future(self._upserts.submit(part))
            staging.add_done_callback(lambda _, attempt=attempt: self._staging.pop(attempt))
            await asyncio.shield(staging)

    async def _upsert(self, parts: list[_Part]) -> list[GannetError | None]:
        return await in_requests(parts, lambda part: part.name, self._upsert_request, blames=(VectorsRefused,))

    async def _upsert_request(self, parts: list[_Part]) -> list[None]:
        batch = [_struct(point) for part in parts for point in part.points]
        await ask(self._client.upsert(parts[0].name, batch, wait=True, ordering=models.WriteOrdering.STRONG))
        return [None] * len(parts)

    async def stamp(self, name: str, publish: Publish) -> None:
        """Let the staged revisions' passages begin, and the retired ones' end, with the generation of `publish`.

        Only what has no generation there yet is stamped, so that doing it again, or late, changes nothing.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                for field, documents in (("gen_from", publish.staged), ("gen_to", publish.retired)):
                    for at in range(0, len(documents), STAMPED_MAX):
                        part = documents[at : at + STAMPED_MAX]
                        tasks.create_task(self._stamp(name, publish, field, part))
        except ExceptionGroup as group:
            raise group.exceptions[0] from group

    async def _stamp(self, name: str, publish: Publish, field: str, documents: Sequence[Document]) -> None:
        conditions = models.Filter(
            must=[*_collection_is(publish.collection), _passages_of(documents), _is(field, GENERATION_NEVER)]
        )
        await ask(
            self._client.set_payload(
                name,
                {field: publish.generation},
                models.FilterSelector(filter=conditions),
                wait=True,
                ordering=models.WriteOrdering.STRONG,
            )
        )

    async def vectors_of(self, name: str, document: Document) -> AsyncGenerator[StoredVectors]:
        """The vectors of a revision's passages, in no order; none if the store has lost them."""
        offset: Any = None
        conditions = models.Filter(must=[*_document_is(document.name), _passages_of([document])])
        while True:
            try:
                records, offset = await ask(
                    self._client.scroll(
                        name,
                        conditions,
                        limit=UPSERT_POINTS_MAX,
                        offset=offset,
                        with_payload=["title", "text"],
                        with_vectors=True,
                    )
                )
            except VectorsMissing:
                return
            for record in records:
                yield _stored(record)
            if offset is None:
                return

    async def delete_staged(self, name: str, claim: Claim) -> None:
        """Remove the passages of a claim that no publish has made part of a generation, also those that are on their way."""
        if (staging := self._staging.get(claim.attempt)) is not None:
            await asyncio.wait([staging])
        staged = [_is("attempt", claim.attempt), _is("gen_from", GENERATION_NEVER)]
        await self._delete(name, models.Filter(must=[*_document_is(claim.document), *staged]))

    async def delete_document(self, name: str, document: DocumentName) -> None:
        """Remove every passage of a document, of every generation."""
        await self._delete(name, models.Filter(must=[*_document_is(document)]))

    async def delete_below(self, name: str, collection: CollectionName, floor: int) -> None:
        """Remove the passages that no reader at generation `floor` or later sees."""
        ended = models.FieldCondition(key="gen_to", range=models.Range(lte=floor))
        await self._delete(name, models.Filter(must=[*_collection_is(collection), ended]))

    async def delete_collection(self, name: str, collection: CollectionName) -> None:
        """Remove all passages of a Gannet collection."""
        await self._delete(name, models.Filter(must=[*_collection_is(collection)]))

    async def _delete(self, name: str, conditions: models.Filter) -> None:
        with contextlib.suppress(VectorsMissing):  # nothing is left to delete
            await ask(
                self._client.delete(
                    name,
                    models.FilterSelector(filter=conditions),
                    wait=True,
                    ordering=models.WriteOrdering.STRONG,
                )
            )

    async def _create(self, name: str, dim: int) -> bool:
        return await self._client.create_collection(
            name,
            # No global graph: every search is inside one tenant, whose points have a graph of their own (payload_m).
            vectors_config={
                DENSE: models.VectorParams(
                    size=dim, distance=models.Distance.COSINE, hnsw_config=models.HnswConfigDiff(m=0, payload_m=16)
                )
            },
            sparse_vectors_config={SPARSE: models.SparseVectorParams(modifier=models.Modifier.IDF)},
            replication_factor=self._replication_factor,
        )


def _struct(point: PassagePoint) -> models.PointStruct:
    sparse = models.SparseVector(indices=point.sparse.indices.tolist(), values=point.sparse.values.tolist())
    return models.PointStruct(
        id=point.id, vector={DENSE: point.dense.tolist(), SPARSE: sparse}, payload=point.payload()
    )


def _is(field: str, value: str | int) -> models.FieldCondition:
    return models.FieldCondition(key=field, match=models.MatchValue(value=value))


def _passages_of(documents: Sequence[Document]) -> models.Condition:
    attempts = [document.attempt for document in documents if document.attempt]
    named = models.FieldCondition(key="attempt", match=models.MatchAny(any=attempts))
    unnamed = [document.name.document for document in documents if not document.attempt]
    if not unnamed:
        return named
    # Stored before passages had an attempt, when a document had one revision.
    old = models.Filter(
        must=[
            models.FieldCondition(key="document", match=models.MatchAny(any=unnamed)),
            models.IsEmptyCondition(is_empty=models.PayloadField(key="attempt")),
        ]
    )
    return models.Filter(should=[named, old])


def _stored(record: models.Record) -> StoredVectors:
    vectors = cast("dict[str, Any]", record.vector)
    payload = record.payload or {}
    sparse = vectors[SPARSE]
    return StoredVectors(
        title=payload["title"],
        text=payload["text"],
        dense=np.asarray(vectors[DENSE], np.float32),
        sparse=Sparse(indices=np.asarray(sparse.indices, np.uint32), values=np.asarray(sparse.values, np.float32)),
    )


def _collection_is(name: CollectionName) -> list[models.FieldCondition]:
    return [_is("tenant", name.tenant), _is("collection", name.collection)]


def _document_is(name: DocumentName) -> list[models.FieldCondition]:
    return [*_collection_is(name.parent), _is("document", name.document)]
