"""CollectionService on the wire."""

from typing import Any

from google.protobuf.empty_pb2 import Empty

from gannet.gateway.v1 import collections_pb2, collections_pb2_grpc
from gannet_gateway.clients import Embedder
from gannet_gateway.config import GatewayConfig
from gannet_gateway.documents.ingest import Ingester
from gannet_gateway.documents.wire import to_timestamp
from gannet_gateway.ledger.ledger import Ledger, Setting
from gannet_gateway.ledger.records import Collection
from gannet_gateway.names import CollectionName, check_collection_id, parse_collection, parse_tenant, to_generators
from gannet_gateway.paging import page_size, read_token, write_token
from gannet_gateway.vectors.index import Index
from gannet_gateway.vectors.points import FIRST_GENERATION, qdrant_collection
from gannet_service.errors import InvalidInput

CHUNK_SIZE_MIN, CHUNK_SIZE_MAX = 100, 20_000
LANGUAGE_DEFAULT = "en"
# Settings that do not change what is stored.
CHANGEABLE = frozenset({"rerank", "cache_results", "cache_ttl", "generators"})
CACHE_TTL_S_MIN, CACHE_TTL_S_MAX = 1, 2_592_000


class CollectionServicer(collections_pb2_grpc.CollectionServiceServicer):
    """See collections.proto."""

    def __init__(
        self, ledger: Ledger, ingester: Ingester, embedder: Embedder, index: Index, config: GatewayConfig
    ) -> None:
        self._ledger = ledger
        self._ingester = ingester
        self._embedder = embedder
        self._index = index
        self._config = config

    async def CreateCollection(  # noqa: N802
        self, request: collections_pb2.CreateCollectionRequest, context: Any
    ) -> collections_pb2.Collection:
        del context
        tenant = parse_tenant(request.parent, "parent")
        name = CollectionName(tenant, check_collection_id(request.collection_id, "collection_id"))
        model = await self._embedder.model()
        wanted = request.collection
        size, overlap = self._chunking(wanted)
        language = wanted.language or LANGUAGE_DEFAULT
        if language not in model.languages:
            known = ", ".join(model.languages)
            raise InvalidInput(
                f"collection.language: {language[:20]!r} is not one of {known}", field="collection.language"
            )
        await self._index.ensure_collection(qdrant_collection(model.model, model.digest), model.dim)
        collection = Collection(
            name=name,
            chunk_size=size,
            chunk_overlap=overlap,
            language=language,
            rerank=wanted.rerank if wanted.HasField("rerank") else None,
            cache_results=wanted.cache_results if wanted.HasField("cache_results") else None,
            cache_ttl_s=_to_cache_ttl_s(wanted),
            embedding_model=model.model,
            embedding_model_digest=model.digest,
            dim=model.dim,
            generation=FIRST_GENERATION,
            generators=to_generators(wanted.generators, "collection.generators"),
            created_at_s=0.0,
        )
        return _to_wire(await self._ledger.create_collection(collection))

    async def GetCollection(  # noqa: N802
        self, request: collections_pb2.GetCollectionRequest, context: Any
    ) -> collections_pb2.Collection:
        del context
        return _to_wire(await self._ledger.collection(parse_collection(request.name, "name")))

    async def ListCollections(  # noqa: N802
        self, request: collections_pb2.ListCollectionsRequest, context: Any
    ) -> collections_pb2.ListCollectionsResponse:
        del context
        tenant = parse_tenant(request.parent, "parent")
        scope = f"tenants/{tenant}/collections"
        after = read_token(scope, request.page_token)
        page = await self._ledger.list_collections(tenant, after=after, limit=page_size(request.page_size))
        return collections_pb2.ListCollectionsResponse(
            collections=[_to_wire(collection) for collection in page.items],
            next_page_token=write_token(scope, page.next_after),
        )

    async def UpdateCollection(  # noqa: N802
        self, request: collections_pb2.UpdateCollectionRequest, context: Any
    ) -> collections_pb2.Collection:
        del context
        wanted = request.collection
        name = parse_collection(wanted.name, "collection.name")
        paths = set(request.update_mask.paths)
        if not paths or not paths <= CHANGEABLE:
            problem = f"update_mask: must name some of {', '.join(sorted(CHANGEABLE))}"
            raise InvalidInput(problem, field="update_mask")
        settings: dict[str, Setting] = {}
        if "rerank" in paths:
            settings["rerank"] = wanted.rerank if wanted.HasField("rerank") else None
        if "cache_results" in paths:
            settings["cache_results"] = wanted.cache_results if wanted.HasField("cache_results") else None
        if "cache_ttl" in paths:
            settings["cache_ttl_s"] = _to_cache_ttl_s(wanted)
        if "generators" in paths:
            settings["generators"] = to_generators(wanted.generators, "collection.generators")
        await self._ledger.update_collection(name, settings, wanted.etag)
        return _to_wire(await self._ledger.collection(name))

    async def DeleteCollection(self, request: collections_pb2.DeleteCollectionRequest, context: Any) -> Empty:  # noqa: N802
        del context
        await self._ingester.delete_collection(parse_collection(request.name, "name"))
        return Empty()

    def _chunking(self, wanted: collections_pb2.Collection) -> tuple[int, int]:
        size = wanted.chunk_size or self._config.chunk_size_default
        if not CHUNK_SIZE_MIN <= size <= CHUNK_SIZE_MAX:
            problem = f"collection.chunk_size: {size}; the limits are {CHUNK_SIZE_MIN} to {CHUNK_SIZE_MAX} characters"
            raise InvalidInput(problem, field="collection.chunk_size")
        if not wanted.HasField("chunk_overlap"):
            return size, min(self._config.chunk_overlap_default, (size - 1) // 2)
        if wanted.chunk_overlap * 2 >= size:
            problem = (
                f"collection.chunk_overlap: {wanted.chunk_overlap}; it must be less than half of chunk_size = {size}"
            )
            raise InvalidInput(problem, field="collection.chunk_overlap")
        return size, wanted.chunk_overlap


def _to_cache_ttl_s(wanted: collections_pb2.Collection) -> float | None:
    if not wanted.HasField("cache_ttl"):
        return None
    seconds = wanted.cache_ttl.seconds + wanted.cache_ttl.nanos / 1e9
    if not CACHE_TTL_S_MIN <= seconds <= CACHE_TTL_S_MAX:
        problem = f"collection.cache_ttl: {seconds:g} s; the limits are {CACHE_TTL_S_MIN} to {CACHE_TTL_S_MAX} s"
        raise InvalidInput(problem, field="collection.cache_ttl")
    return seconds


def _to_wire(collection: Collection) -> collections_pb2.Collection:
    message = collections_pb2.Collection(
        name=str(collection.name),
        chunk_size=collection.chunk_size,
        chunk_overlap=collection.chunk_overlap,
        language=collection.language,
        rerank=collection.rerank,
        cache_results=collection.cache_results,
        etag=collection.etag,
        embedding_model=collection.embedding_model,
        embedding_model_digest=collection.embedding_model_digest,
        document_count=collection.document_count,
        generation=collection.generation,
        create_time=to_timestamp(collection.created_at_s),
        floor_generation=collection.gen_floor,
        generators=collection.generators,
        languages=collection.languages,
    )
    if collection.cache_ttl_s is not None:
        message.cache_ttl.FromNanoseconds(round(collection.cache_ttl_s * 1e9))
    return message
