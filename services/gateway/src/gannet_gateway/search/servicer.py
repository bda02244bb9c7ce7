"""SearchService on the wire."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from cachetools import LRUCache

from gannet.gateway.v1 import search_pb2, search_pb2_grpc
from gannet_gateway.cache.keys import cache_window, normalised, result_key
from gannet_gateway.cache.reader import CollectionReader
from gannet_gateway.cache.tiers import Computed, Tier, TieredCache
from gannet_gateway.clients import QueryVectors
from gannet_gateway.config import GatewayConfig
from gannet_gateway.ledger.records import Collection
from gannet_gateway.names import CollectionName, parse_collection
from gannet_gateway.search import wire
from gannet_gateway.search.clients import Reranker
from gannet_gateway.search.query import Mode, Options, Page, Query
from gannet_gateway.search.search import Searcher
from gannet_service import call
from gannet_service.call import Principal
from gannet_service.errors import GannetError, InvalidInput

TOP_K_DEFAULT = 10
# Requests that are kept as they were understood; a longer one, with a filter of hundreds of bytes, is understood anew.
ASKED_KEPT_MAX = 4096
ASKED_BYTES_MAX = 1024
# Searches of a batch that are in work at once: the batch has one place among the tenants' searches.
BATCH_IN_WORK_MAX = 4


class _Resolved(NamedTuple):
    """What a request means for a collection as it is: the search, and under which key its reply is cached."""

    collection: Collection
    query: Query
    models: tuple[str, ...]
    window: int | None
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
        *,
        charge: Callable[[Principal, int], Awaitable[None]],
    ) -> None:
        self._reader = reader
        self._searcher = searcher
        self._reranker = reranker
        self._cache = cache
        self._config = config
        self._charge = charge
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

    async def BatchSearch(  # noqa: N802
        self, request: search_pb2.BatchSearchRequest, context: Any
    ) -> search_pb2.BatchSearchResponse:
        """Every query's reply or error; raises what is wrong with all of them."""
        del context
        options = self._options(request.options)
        wire.check_batch(len(request.queries), options.top_k or TOP_K_DEFAULT, options.neighbours)
        name = parse_collection(request.parent, "parent")
        staleness_s_max = wire.to_staleness_s(request.max_staleness)
        shared = _Asked(name=name, text="", options=options, page=Page(depth=0), staleness_s_max=staleness_s_max)
        await self._charge(call.principal(), len(request.queries) - 1)
        collection = await self._reader.collection_settings(name, staleness_s_max)
        if request.generation:
            collection = replace(collection, generation=collection.as_of(request.generation, "generation"))
        self._query(shared, collection)  # or raises for all of them
        batch: list[_Asked | GannetError] = []
        for place, text in enumerate(request.queries):
            try:
                checked = wire.check_query(text, self._config.query_bytes_max, f"queries[{place}]")
                batch.append(replace(shared, text=normalised(checked)))
            except InvalidInput as error:
                batch.append(error)
        return await self._searcher.while_kept(self._batch(collection, batch))

    async def _batch(
        self, collection: Collection, batch: Sequence[_Asked | GannetError]
    ) -> search_pb2.BatchSearchResponse:
        outcomes = await self._known(collection, batch)
        wanted = [(place, one) for place, one in enumerate(batch) if isinstance(one, _Asked) and place not in outcomes]
        started = time.perf_counter()
        texts = list(dict.fromkeys(one.text for _, one in wanted if one.options.mode is not Mode.SPARSE))
        embeddings = dict(zip(texts, await self._searcher.embed(collection, texts), strict=True)) if texts else {}
        embedded = time.perf_counter()
        places = asyncio.Semaphore(BATCH_IN_WORK_MAX)

        async def search(place: int, asked: _Asked) -> None:
            async with places:
                try:
                    outcomes[place] = await self._reply(collection, asked, embeddings.get(asked.text))
                except GannetError as error:
                    outcomes[place] = error

        async with asyncio.TaskGroup() as group:
            for place, asked in wanted:
                group.create_task(search(place, asked))
        return search_pb2.BatchSearchResponse(
            results=[wire.from_outcome(outcomes[place]) for place in range(len(batch))],
            embed_us=round((embedded - started) * 1e6) if texts else 0,
        )

    async def _known(
        self, collection: Collection, batch: Sequence[_Asked | GannetError]
    ) -> dict[int, bytes | GannetError]:
        """What of a batch needs no search: errors, and replies that are cached."""
        started = time.perf_counter()
        outcomes: dict[int, bytes | GannetError] = {}
        keys: dict[int, bytes] = {}
        for place, one in enumerate(batch):
            if isinstance(one, GannetError):
                outcomes[place] = one
            elif self._keeps(collection) and (resolved := await self._resolved(one, collection)) is not None:
                keys[place] = resolved.key
        if self._cache is not None:
            for place, cached in zip(keys, await self._cache.find(list(keys.values())), strict=True):
                if cached is not None:
                    own = wire.own_fields(wire.total_only(time.perf_counter() - started), cached.tier, None)
                    outcomes[place] = cached.value + own
        return outcomes

    async def _reply(
        self, collection: Collection, asked: _Asked, embedding: QueryVectors | GannetError | None
    ) -> bytes:
        if self._cache is not None and self._keeps(collection):
            resolved = await self._resolved(asked, collection)
            if resolved is not None:
                return await self._cached(self._cache, resolved, time.perf_counter(), embedding)
        result = await self._searcher.search(collection, self._query(asked, collection), embedding)
        return wire.from_result(result, "").SerializeToString()

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
        options = self._options(request.options)
        name = parse_collection(request.parent, "parent")
        return _Asked(
            name=name,
            text=text,
            options=options,
            page=wire.to_page(request, name),
            staleness_s_max=wire.to_staleness_s(request.max_staleness),
        )

    def _options(self, message: search_pb2.SearchOptions) -> Options:
        return wire.to_options(
            message,
            prefix="options",
            top_k_max=self._config.top_k_max,
            filter_bytes_max=self._config.filter_bytes_max,
        )

    def _query(self, asked: _Asked, collection: Collection) -> Query:
        return Query.of(
            asked.text, asked.options, collection, self._config, top_k_default=TOP_K_DEFAULT, page=asked.page
        )

    async def _resolved(self, asked: _Asked, collection: Collection) -> _Resolved | None:
        """The search and its key; None where nobody can say which model would rerank, or phrase the query."""
        last = asked.last
        known = last is not None and last.collection == collection
        query = last.query if last is not None and known else self._query(asked, collection)
        try:
            models = (await self._reranker.model_digest(),) if query.rerank else ()
            if query.multi_query is not None:
                models = (*models, await self._searcher.writer(query.multi_query))
        except GannetError:
            return None
        window = cache_window(collection)
        if last is not None and known and last.models == models and last.window == window:
            return last
        key = result_key(collection, query, *models, window=window)
        asked.last = _Resolved(collection, query, models, window, key)
        return asked.last

    async def _cached(
        self,
        cache: TieredCache,
        resolved: _Resolved,
        started: float,
        embedding: QueryVectors | GannetError | None = None,
    ) -> bytes:
        # What is cached is a reply without its last fields, which are this call's own and are appended to it: bytes of two messages,
        # one behind the other, are the bytes of both merged.
        own: bytes | None = None

        async def compute() -> Computed:
            nonlocal own
            result = await self._searcher.search(resolved.collection, resolved.query, embedding)
            own = wire.own_fields(result.timings, Tier.COMPUTED, result.embedding)
            return Computed(value=wire.shared_fields(result).SerializeToString(), keep=not result.degraded)

        cached = await cache.get_or_compute(resolved.key, compute)
        if own is None:
            own = wire.own_fields(wire.total_only(time.perf_counter() - started), cached.tier, None)
        return cached.value + own
