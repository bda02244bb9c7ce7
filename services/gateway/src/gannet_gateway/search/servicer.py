"""SearchService on the wire."""

import time
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from cachetools import LRUCache

from gannet.gateway.v1 import search_pb2, search_pb2_grpc
from gannet_gateway.cache.keys import normalised, result_key
from gannet_gateway.cache.reader import CollectionReader
from gannet_gateway.cache.tiers import Computed, Tier, TieredCache
from gannet_gateway.clients import Reranker
from gannet_gateway.config import GatewayConfig
from gannet_gateway.ledger.records import Collection
from gannet_gateway.names import CollectionName, parse_collection
from gannet_gateway.search import wire
from gannet_gateway.search.query import Options, Page, Query
from gannet_gateway.search.search import Searcher
from gannet_service import call
from gannet_service.call import Principal
from gannet_service.errors import GannetError

TOP_K_DEFAULT = 10
# Requests that are kept as they were understood; a longer one, with a filter of hundreds of bytes, is understood anew.
ASKED_KEPT_MAX = 4096
ASKED_BYTES_MAX = 1024


class _Resolved(NamedTuple):
    """What a request means for a collection as it is: the search, and under which key its reply is cached."""

    collection: Collection
    query: Query
    reranker: str | None
    key: bytes


@dataclass(slots=True, kw_only=True)
class _Asked:
    """A request, checked; `last` is what it meant the last time."""

    name: CollectionName
    text: str
    options: Options
    page: Page
    staleness_s_max: float
    last: _Resolved | None = None


class SearchServicer(search_pb2_grpc.SearchServiceServicer):
    """See search.proto. Without a cache every search is made anew."""

    def __init__(
        self,
        reader: CollectionReader,
        searcher: Searcher,
        reranker: Reranker,
        cache: TieredCache | None,
        config: GatewayConfig,
    ) -> None:
        self._reader = reader
        self._searcher = searcher
        self._reranker = reranker
        self._cache = cache
        self._config = config
        # Checking a request and writing its key take 70 µs, half of what a cached reply costs the servicer without this. The whole
        # principal is part of the key, so that nothing of one caller's is another's.
        self._asked_before: LRUCache[tuple[Principal, bytes], _Asked] = LRUCache(ASKED_KEPT_MAX)

    async def Search(  # noqa: N802  # pyright: ignore[reportIncompatibleMethodOverride] - the interceptor lets bytes through
        self, request: search_pb2.SearchRequest, context: Any
    ) -> search_pb2.SearchResponse | bytes:
        """The reply, or its bytes."""
        del context
        started = time.perf_counter()
        asked = self._asked(request)
        collection = await self._reader.collection_settings(asked.name, asked.staleness_s_max)
        page = asked.page
        if page.generation is not None:
            field = "page_token" if request.page_token else "generation"
            collection = replace(collection, generation=collection.as_of(page.generation, field))
        # A page's token belongs to the request as it was written, and pages are seldom read twice.
        if self._cache is not None and self._keeps(collection) and not request.paging_depth:
            resolved = await self._resolved(asked, collection)
            if resolved is not None:
                return await self._cached(self._cache, resolved, started)
        query = self._query(asked, collection)
        result = await self._searcher.search(collection, query)
        return wire.from_result(result, wire.next_page_token(request, asked.name, result, query.offset + query.top_k))

    def _keeps(self, collection: Collection) -> bool:
        return self._config.cache_results if collection.cache_results is None else collection.cache_results

    def _asked(self, request: search_pb2.SearchRequest) -> _Asked:
        """The request, checked; raises InvalidInput or PermissionDenied."""
        key = call.principal(), request.SerializeToString(deterministic=True)
        asked = self._asked_before.get(key)
        if asked is None:
            asked = self._checked(request)
            if len(key[1]) <= ASKED_BYTES_MAX:
                self._asked_before[key] = asked
        return asked

    def _checked(self, request: search_pb2.SearchRequest) -> _Asked:
        text = normalised(wire.check_query(request.query, self._config.query_bytes_max))
        options = wire.to_options(
            request.options,
            prefix="options",
            top_k_max=self._config.top_k_max,
            filter_bytes_max=self._config.filter_bytes_max,
        )
        name = parse_collection(request.parent, "parent")
        return _Asked(
            name=name,
            text=text,
            options=options,
            page=wire.to_page(request, name),
            staleness_s_max=wire.to_staleness_s(request.max_staleness),
        )

    def _query(self, asked: _Asked, collection: Collection) -> Query:
        return Query.of(
            asked.text, asked.options, collection, self._config, top_k_default=TOP_K_DEFAULT, page=asked.page
        )

    async def _resolved(self, asked: _Asked, collection: Collection) -> _Resolved | None:
        """The search and its key; None where nobody can say which model would rerank."""
        last = asked.last
        known = last is not None and last.collection == collection
        query = last.query if last is not None and known else self._query(asked, collection)
        try:
            reranker = await self._reranker.model_digest() if query.rerank else None
        except GannetError:
            return None
        if last is not None and known and last.reranker == reranker:
            return last
        key = result_key(collection, query, *([] if reranker is None else [reranker]))
        asked.last = _Resolved(collection, query, reranker, key)
        return asked.last

    async def _cached(self, cache: TieredCache, resolved: _Resolved, started: float) -> bytes:
        # What is cached is a reply without its last fields, which are this call's own and are appended to it: bytes of two messages,
        # one behind the other, are the bytes of both merged.
        own: bytes | None = None

        async def compute() -> Computed:
            nonlocal own
            result = await self._searcher.search(resolved.collection, resolved.query)
            own = wire.own_fields(result.timings, Tier.COMPUTED, result.embedding)
            return Computed(value=wire.shared_fields(result).SerializeToString(), keep=not result.degraded)

        cached = await cache.get_or_compute(resolved.key, compute)
        if own is None:
            own = wire.own_fields(wire.total_only(time.perf_counter() - started), cached.tier, None)
        return cached.value + own
