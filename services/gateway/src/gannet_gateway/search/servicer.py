"""SearchService on the wire."""

from dataclasses import replace
from typing import Any

from gannet.gateway.v1 import search_pb2, search_pb2_grpc
from gannet_gateway.config import GatewayConfig
from gannet_gateway.ledger.ledger import Ledger
from gannet_gateway.names import parse_collection
from gannet_gateway.search import wire
from gannet_gateway.search.query import Query
from gannet_gateway.search.search import Searcher

TOP_K_DEFAULT = 10


class SearchServicer(search_pb2_grpc.SearchServiceServicer):
    """See search.proto."""

    def __init__(self, ledger: Ledger, searcher: Searcher, config: GatewayConfig) -> None:
        self._ledger = ledger
        self._searcher = searcher
        self._config = config

    async def Search(self, request: search_pb2.SearchRequest, context: Any) -> search_pb2.SearchResponse:  # noqa: N802
        del context
        text = wire.check_query(request.query, self._config.query_bytes_max)
        options = wire.to_options(
            request.options,
            prefix="options",
            top_k_max=self._config.top_k_max,
            filter_bytes_max=self._config.filter_bytes_max,
        )
        name = parse_collection(request.parent, "parent")
        page = wire.to_page(request, name)
        collection = await self._ledger.collection_settings(name)
        if page.generation is not None:
            field = "page_token" if request.page_token else "generation"
            collection = replace(collection, generation=collection.as_of(page.generation, field))
        query = Query.of(text, options, collection, self._config, top_k_default=TOP_K_DEFAULT, page=page)
        result = await self._searcher.search(collection, query)
        return wire.from_result(result, wire.next_page_token(request, name, result, query.offset + query.top_k))
