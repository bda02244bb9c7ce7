"""What a client can do with collections."""

from collections.abc import AsyncGenerator, Collection

from gannet.gateway.v1 import collections_pb2
from gannet.gateway.v1.collections_pb2_grpc import CollectionServiceStub
from gannet_client import types, wire
from gannet_client.transport import Transport

PAGE_SIZE = 500


class CollectionCalls:
    """A part of `GannetClient`, which has a transport, and a deadline for calls that are given none."""

    _transport: Transport
    _collections: CollectionServiceStub
    _timeout_s: float

    async def create_collection(
        self,
        collection_id: str,
        *,
        chunk_size: int = 0,
        chunk_overlap: int | None = None,
        language: str = "",
        rerank: bool | None = None,
        cache_results: bool | None = None,
        cache_ttl_s: float | None = None,
        timeout_s: float | None = None,
    ) -> types.Collection:
        """Make an empty collection; what is not given is the server's default. Sizes count characters."""
        request = collections_pb2.CreateCollectionRequest(
            parent="tenants/-",
            collection_id=collection_id,
            collection=collections_pb2.Collection(
                chunk_size=chunk_size,
                chunk_overlap=chunk_overlap,
                language=language,
                rerank=rerank,
                cache_results=cache_results,
                cache_ttl=wire.duration(cache_ttl_s),
            ),
        )
        return wire.collection(
            await self._transport.unary(self._collections.CreateCollection, request, self._limit(timeout_s))
        )

    async def get_collection(self, collection: str, *, timeout_s: float | None = None) -> types.Collection:
        """A collection's settings and state."""
        request = collections_pb2.GetCollectionRequest(name=wire.collection_name(collection))
        return wire.collection(
            await self._transport.unary(self._collections.GetCollection, request, self._limit(timeout_s))
        )

    async def list_collections(self, *, timeout_s: float | None = None) -> AsyncGenerator[types.Collection]:
        """All collections in the order of their ids; `timeout_s` is for each page."""
        token = ""
        while True:
            request = collections_pb2.ListCollectionsRequest(parent="tenants/-", page_size=PAGE_SIZE, page_token=token)
            page = await self._transport.unary(self._collections.ListCollections, request, self._limit(timeout_s))
            for message in page.collections:
                yield wire.collection(message)
            token = page.next_page_token
            if not token:
                return

    async def delete_collection(self, collection: str, *, timeout_s: float | None = None) -> None:
        """Remove a collection with all its documents."""
        request = collections_pb2.DeleteCollectionRequest(name=wire.collection_name(collection))
        await self._transport.unary(self._collections.DeleteCollection, request, self._limit(timeout_s))

    async def update_collection(
        self,
        collection: str,
        settings: types.CollectionSettings,
        *,
        reset: Collection[str] = (),
        etag: str = "",
        timeout_s: float | None = None,
    ) -> types.Collection:
        """Change what `settings` says of a collection, and leave what `reset` names to the server again.

        Args:
            collection: which one.
            settings: what is None stays as it is.
            reset: names of settings, "rerank", "cache_results" or "cache_ttl_s".
            etag: change it only if it is still the collection's, else Conflict; empty changes any.
            timeout_s: deadline.
        """
        message = collections_pb2.Collection(
            name=wire.collection_name(collection),
            rerank=settings.rerank,
            cache_results=settings.cache_results,
            cache_ttl=wire.duration(settings.cache_ttl_s),
            etag=etag,
        )
        request = collections_pb2.UpdateCollectionRequest(collection=message)
        request.update_mask.paths.extend(wire.settings_mask(settings, reset))
        return wire.collection(
            await self._transport.unary(self._collections.UpdateCollection, request, self._limit(timeout_s))
        )

    def _limit(self, timeout_s: float | None) -> float:
        return self._timeout_s if timeout_s is None else timeout_s
