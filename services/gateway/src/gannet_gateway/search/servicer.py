"""SearchService on the wire."""

import time
from dataclasses import replace
from typing import Any

from gannet.gateway.v1 import search_pb2, search_pb2_grpc
from gannet_gateway.cache.keys import normalised, result_key
from gannet_gateway.cache.reader import CollectionReader
from gannet_gateway.cache.tiers import Computed, TieredCache
from gannet_gateway.clients import Reranker
from gannet_gateway.config import GatewayConfig
from gannet_gateway.ledger.records import Collection
from gannet_gateway.names import parse_collection
from gannet_gateway.search import wire
from gannet_gateway.search.query import Query
from gannet_gateway.search.search import Searcher
from gannet_service.errors import GannetError

TOP_K_DEFAULT = 10


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

    async def Search(self, request: search_pb2.SearchRequest, context: Any) -> search_pb2.SearchResponse:  # noqa: N802
        del context
        started = time.perf_counter()
        text = normalised(wire.check_query(request.query, self._config.query_bytes_max))
        options = wire.to_options(
            request.options,
            prefix="options",
            top_k_max=self._config.top_k_max,
            filter_bytes_max=self._config.filter_bytes_max,
        )
        name = parse_collection(request.parent, "parent")
        page = wire.to_page(request, name)
        collection = await self._reader.collection_settings(name)
        if page.generation is not None:
            field = "page_token" if request.page_token else "generation"
            collection = replace(collection, generation=collection.as_of(page.generation, field))
        query = Query.of(text, options, collection, self._config, top_k_default=TOP_K_DEFAULT, page=page)
        # A page's token belongs to the request as it was written, and pages are seldom read twice.
        if self._cache is not None and not request.paging_depth:
            return await self._cached(self._cache, collection, query, started)
        result = await self._searcher.search(collection, query)
        return wire.from_result(result, wire.next_page_token(request, name, result, query.offset + query.top_k))

    async def _cached(
        self, cache: TieredCache, collection: Collection, query: Query, started: float
    ) -> search_pb2.SearchResponse:
        fresh: search_pb2.SearchResponse | None = None

        async def compute() -> Computed:
            nonlocal fresh
            result = await self._searcher.search(collection, query)
            fresh = wire.from_result(result, next_token="")
            return Computed(value=fresh.SerializeToString(), keep=not result.degraded)

        try:
            models = [await self._reranker.model_digest()] if query.rerank else []
        except GannetError:  # then nobody can say which model would have been asked
            return wire.from_result(await self._searcher.search(collection, query), next_token="")
        data = await cache.get_or_compute(result_key(collection, query, *models), compute)
        if fresh is not None:
            return fresh
        response = search_pb2.SearchResponse.FromString(data)
        response.timings.CopyFrom(search_pb2.SearchTimings(total_us=round((time.perf_counter() - started) * 1e6)))
        return response
