"""One search: snapshot, expand, embed, retrieve, rerank. This is the whole path."""

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from gannet_gateway.cache.tiers import Tier
from gannet_gateway.clients import Embedder, QueryVectors
from gannet_gateway.config import GatewayConfig
from gannet_gateway.ledger.records import Collection
from gannet_gateway.search.clients import Reranker
from gannet_gateway.search.expansion import Expander, Phrasings
from gannet_gateway.search.feedback import moved_dense, moved_sparse
from gannet_gateway.search.query import Degradation, Mode, MultiQuery, Passage, Query, Result, Timings
from gannet_gateway.search.ranking import Ranked, at_most_of_a_document, diversified, reranked, unranked
from gannet_gateway.search.terms import QueryTerms
from gannet_gateway.vectors.lists import Found
from gannet_gateway.vectors.points import DENSE, SPARSE, Candidate, Sparse, qdrant_collection
from gannet_gateway.vectors.retriever import Phrasing, Retriever, Wanted
from gannet_gateway.vectors.visible import Snapshot
from gannet_service import call
from gannet_service.errors import DeadlineTooShort, DependencyUnavailable, GannetError, InternalError, InvalidInput

# How deep a search looks for passages of other documents, and how fast it goes there.
GROUPED_DEPTH_MAX = 1000
GROUPED_DEPTH_FACTOR = 4
# A stage that had less time than this, and did not answer, says nothing about the stage: the caller's deadline was too short.
FAIR_CHANCE_S = 0.05

P = ParamSpec("P")
T = TypeVar("T")


class StageTimeout(DependencyUnavailable):
    """A dependency took longer than its share of the deadline."""

    default_reason = "STAGE_TIMEOUT"


class Searcher:
    """Runs searches."""

    def __init__(
        self,
        embedder: Embedder,
        retriever: Retriever,
        reranker: Reranker,
        config: GatewayConfig,
        expander: Expander | None = None,
    ) -> None:
        self._embedder = embedder
        self._retriever = retriever
        self._reranker = reranker
        self._config = config
        self._expander = expander
        self._terms = QueryTerms()

    async def search(
        self, collection: Collection, query: Query, embedding: QueryVectors | GannetError | None = None
    ) -> Result:
        """The best passages of `collection`, read once before, for `query`; `embedding` is what `embed` gave for it.

        Raises:
            DependencyUnavailable: the vector store is down or over its budget, or the embedder is and no terms are there instead.
            DeadlineTooShort: the caller's deadline passed, or the time for which the passages of a generation are sure to be there.
        """
        return await self.while_kept(self._search(collection, query, embedding))

    async def embed(self, collection: Collection, texts: Sequence[str]) -> list[QueryVectors | GannetError]:
        """The embeddings of many queries at once, in order, or why there is none."""
        try:
            limit_s = _share_s(self._config.embed_timeout_s, self._config.embed_budget)
            embeddings = self._embedder.queries(texts, language=collection.language, dense=True, sparse=False)
            return await _within(limit_s, embeddings, "embedder")
        except GannetError as error:
            return [error] * len(texts)

    async def writer(self, wanted: MultiQuery) -> str:
        """Names the model that would write phrasings, empty where there is none; raises GannetError if there is no telling."""
        model = None if self._expander is None else await self._expander.writer(wanted)
        return "" if model is None else f"{model.name} {model.model} {model.digest}"

    async def while_kept(self, work: Coroutine[Any, Any, T]) -> T:
        """Await `work` for as long as passages of a generation that was the latest just now are sure to be there.

        Raises:
            DeadlineTooShort: it took longer.
        """
        kept_s = self._config.collect_delay_s
        try:
            async with asyncio.timeout(kept_s):
                return await work
        except TimeoutError as error:
            problem = (
                f"the search took longer than collect_delay_s = {kept_s:g} s, after which its passages may be deleted"
            )
            raise DeadlineTooShort(problem, reason="SNAPSHOT_EXPIRED") from error

    async def _search(
        self, collection: Collection, query: Query, embedding: QueryVectors | GannetError | None
    ) -> Result:
        begun = time.perf_counter()
        phrasings = await self._phrasings(query)
        started = time.perf_counter()
        vectors = await self._vectors(collection, query, embedding)
        if phrasings.texts:
            vectors = await self._phrased(collection, query, phrasings.texts, vectors)
        embedded = time.perf_counter()
        snapshot = Snapshot(
            collection=collection.name,
            generation=collection.generation,
            qdrant_collection=qdrant_collection(collection.embedding_model, collection.embedding_model_digest),
            identities=query.identities,
        )
        found = await self._found(snapshot, query, vectors)
        retrieved = time.perf_counter()
        ranked, skipped = await self._ranked(query, found)
        ordered = time.perf_counter()
        end = query.offset + query.top_k
        passages = await self._passages(snapshot, query, ranked[query.offset : end])
        ended = time.perf_counter()
        return Result(
            mode=vectors.mode,
            passages=passages,
            is_last=end >= len(ranked),
            generation=collection.generation,
            degraded=phrasings.degraded + vectors.degraded + skipped,
            embedding=vectors.tier,
            timings=Timings(
                embed_us=_us(embedded - started),
                search_us=_us(retrieved - embedded + ended - ordered),
                rerank_us=_us(ordered - retrieved) if query.rerank else 0,
                total_us=_us(ended - begun),
                expand_us=_us(started - begun),
            ),
        )

    async def _vectors(
        self, collection: Collection, query: Query, embedding: QueryVectors | GannetError | None
    ) -> "_Vectors":
        """What the mode needs; a hybrid search whose embedder is down or late goes on with its terms."""
        sparse = None if query.mode is Mode.DENSE else self._terms.of(query.text, query.languages)
        if query.mode is Mode.SPARSE:
            return _Vectors(None, sparse, ())
        try:
            found = await self._embedded(collection, query.text) if embedding is None else _given(embedding)
        except GannetError as error:
            if sparse is None or not len(sparse.indices):
                raise
            return _Vectors(None, sparse, (_skipped("embed", error),))
        return _Vectors(found.dense, sparse, (), found.tier)

    async def _phrasings(self, query: Query) -> Phrasings:
        if query.multi_query is None:
            return Phrasings(())
        if self._expander is None:
            return Phrasings((), (Degradation(stage="expand", reason="NO_WRITING_GENERATOR"),))
        return await self._expander.phrasings(query.text, query.multi_query)

    async def _phrased(self, collection: Collection, query: Query, texts: Sequence[str], own: "_Vectors") -> "_Vectors":
        """`own` with the vectors of other phrasings beside them, of the same kinds."""
        weight = query.multi_query.weight if query.multi_query is not None else 1.0
        embeddings = await self.embed(collection, texts) if own.dense is not None else [None] * len(texts)
        failed = next((one for one in embeddings if isinstance(one, GannetError)), None)
        phrasings = tuple(
            Phrasing(
                dense=embedding.dense if isinstance(embedding, QueryVectors) else None,
                sparse=None if query.mode is Mode.DENSE else self._terms.of(text, query.languages),
                weight=weight,
            )
            for text, embedding in zip(texts, embeddings, strict=True)
        )
        degraded = own.degraded if failed is None else (*own.degraded, _skipped("expand", failed))
        return own._replace(phrasings=phrasings, degraded=degraded)

    async def _embedded(self, collection: Collection, text: str) -> QueryVectors:
        limit_s = _share_s(self._config.embed_timeout_s, self._config.embed_budget)
        embedding = self._embedder.query(text, language=collection.language, dense=True, sparse=False)
        return await _within(limit_s, embedding, "embedder")

    async def _found(self, snapshot: Snapshot, query: Query, vectors: "_Vectors") -> list[Found]:
        """The first stage's candidates, at most so many of a document as the caller wants."""
        if query.feedback is not None:
            wanted = replace(self._wanted(query, vectors, query.feedback.passages), vectors=(DENSE, SPARSE))
            best = await self._ask_store(self._retriever.search, snapshot, wanted)
            vectors = vectors.moved(best, query.feedback.weight)
        limit = query.candidates
        while True:
            found = await self._ask_store(self._retriever.search, snapshot, self._wanted(query, vectors, limit))
            if query.max_per_document is None:
                return found
            kept = at_most_of_a_document(found, query.max_per_document)
            # Few documents can fill the list: look deeper, up to a bound, until there are enough others.
            if len(kept) >= query.candidates or len(found) < limit or limit >= GROUPED_DEPTH_MAX:
                return kept[: query.candidates]
            limit = min(GROUPED_DEPTH_MAX, limit * GROUPED_DEPTH_FACTOR)

    def _wanted(self, query: Query, vectors: "_Vectors", limit: int) -> Wanted:
        return Wanted(
            dense=vectors.dense,
            sparse=vectors.sparse,
            fusion=query.fusion,
            limit=limit,
            narrowed=query.narrowed,
            dense_score_min=query.dense_score_min,
            exact=query.exact,
            explain=query.explain,
            vectors=() if query.diversity_balance is None else (DENSE,),
            phrasings=vectors.phrasings,
        )

    async def _ranked(self, query: Query, found: list[Found]) -> tuple[list[Ranked], tuple[Degradation, ...]]:
        """Candidates in their final order; a reranker that is down or late is skipped."""
        ranked, skipped = unranked(found), ()
        if query.rerank is not None and found:
            try:
                timeout_s = _share_s(self._config.rerank_timeout_s, self._config.rerank_budget)
                texts = [one.candidate.text for one in found]
                logits = await self._reranker.scores(query.text, texts, timeout_s=timeout_s)
                ranked = reranked(found, logits, query.rerank.weight)
            except GannetError as error:
                skipped = (_skipped("rerank", error),)
        if query.diversity_balance is not None:
            ranked = diversified(ranked, query.depth, query.diversity_balance)
        return ranked[: query.depth], skipped

    async def _passages(self, snapshot: Snapshot, query: Query, ranked: list[Ranked]) -> tuple[Passage, ...]:
        candidates = [one.found.candidate for one in ranked]
        neighbours: list[tuple[Candidate, ...]] = [()] * len(ranked)
        if query.neighbours and ranked:
            neighbours = await self._ask_store(self._retriever.neighbours, snapshot, candidates, query.neighbours)
        return tuple(
            Passage(
                candidate=one.found.candidate,
                final=one.final,
                rerank=one.rerank,
                dense=one.found.dense,
                sparse=one.found.sparse,
                neighbours=around,
            )
            for one, around in zip(ranked, neighbours, strict=True)
        )

    async def _ask_store(self, request: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
        limit_s = _share_s(self._config.search_timeout_s, self._config.search_budget)
        return await _within(limit_s, request(*args, **kwargs), "vector store")


class _Vectors(NamedTuple):
    dense: NDArray[np.float32] | None
    sparse: Sparse | None
    degraded: tuple[Degradation, ...]
    tier: Tier | None = None
    phrasings: tuple[Phrasing, ...] = ()

    @property
    def mode(self) -> Mode:
        """How they find passages: by words alone, by the embedding alone, or by several lists that are fused."""
        if self.phrasings:
            return Mode.HYBRID
        if self.dense is None:
            return Mode.SPARSE
        return Mode.HYBRID if self.sparse is not None and len(self.sparse.indices) else Mode.DENSE

    def moved(self, best: Sequence[Found], weight: float) -> "_Vectors":
        """Moved towards the passages `best`."""
        return self._replace(
            dense=None if self.dense is None else moved_dense(self.dense, best, weight),
            sparse=None if self.sparse is None else moved_sparse(self.sparse, best, weight),
        )


def _given(embedding: QueryVectors | GannetError) -> QueryVectors:
    if isinstance(embedding, GannetError):
        raise embedding
    return embedding


def _share_s(limit_s: float, share: float) -> float:
    """What a stage may take: its share of what is left of the caller's deadline, at most `limit_s`; raises DeadlineTooShort."""
    return min(limit_s, call.remaining_s(math.inf) * share)


async def _within(limit_s: float, work: Coroutine[Any, Any, T], name: str) -> T:
    """Await `work` for `limit_s` at most, then cancel it and raise StageTimeout, or DeadlineTooShort if it had no fair chance."""
    try:
        async with asyncio.timeout(limit_s):
            return await work
    except TimeoutError as error:
        if max(limit_s, call.remaining_s(math.inf)) < FAIR_CHANCE_S:
            raise DeadlineTooShort(f"the deadline left {limit_s * 1e3:.0f} ms for the {name}") from error
        raise StageTimeout(f"{name}: no answer within {limit_s:.2f} s") from error


def _skipped(stage: str, error: GannetError) -> Degradation:
    """A stage that failed, and that the result survives; raises DeadlineTooShort where it is the caller who is out of time."""
    call.remaining_s(math.inf)
    if isinstance(error, DeadlineTooShort | StageTimeout):
        return Degradation(stage=stage, reason="DEADLINE")
    told = isinstance(error, InvalidInput | InternalError)
    return Degradation(stage=stage, reason=error.reason if told else error.code.name)


def _us(seconds: float) -> int:
    return round(seconds * 1e6)
