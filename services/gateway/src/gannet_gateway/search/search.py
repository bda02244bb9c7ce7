"""One search: snapshot, embed, retrieve, rerank. This is the whole path."""

import asyncio
import math
import time
from collections.abc import Coroutine
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from gannet_gateway.clients import Embedder, Reranker
from gannet_gateway.config import GatewayConfig
from gannet_gateway.ledger.records import Collection
from gannet_gateway.search.query import Degradation, Mode, Passage, Query, Rerank, Result, Timings
from gannet_gateway.search.terms import QueryTerms
from gannet_gateway.vectors.points import Candidate, Sparse, qdrant_collection
from gannet_gateway.vectors.retriever import Retriever, Snapshot
from gannet_kernels.fusion import fuse_z_scores
from gannet_service import call
from gannet_service.errors import DeadlineTooShort, DependencyUnavailable, GannetError, InternalError, InvalidInput

T = TypeVar("T")


class StageTimeout(DependencyUnavailable):
    """A dependency took longer than its share of the deadline."""

    default_reason = "STAGE_TIMEOUT"


class Searcher:
    """Runs searches."""

    def __init__(self, embedder: Embedder, retriever: Retriever, reranker: Reranker, config: GatewayConfig) -> None:
        self._embedder = embedder
        self._retriever = retriever
        self._reranker = reranker
        self._config = config
        self._terms = QueryTerms()

    async def search(self, collection: Collection, query: Query) -> Result:
        """The best passages of `collection`, read once before, for `query`.

        Raises:
            DependencyUnavailable: the vector store is down or over its budget, or the embedder is and no terms are there instead.
            DeadlineTooShort: the caller's deadline passed.
        """
        started = time.perf_counter()
        vectors = await self._vectors(collection, query)
        embedded = time.perf_counter()
        candidates = await self._candidates(collection, query, vectors)
        retrieved = time.perf_counter()
        ranking = await self._rank(query, candidates)
        ended = time.perf_counter()
        return Result(
            mode=vectors.mode,
            passages=ranking.passages[: query.top_k],
            generation=collection.generation,
            degraded=vectors.degraded + ranking.degraded,
            timings=Timings(
                embed_us=_us(embedded - started),
                search_us=_us(retrieved - embedded),
                rerank_us=_us(ended - retrieved) if query.rerank else 0,
                total_us=_us(ended - started),
            ),
        )

    async def _vectors(self, collection: Collection, query: Query) -> "_Vectors":
        """What the mode needs; a hybrid search whose embedder is down or late goes on with its terms."""
        sparse = None if query.mode is Mode.DENSE else self._terms.of(query.text, collection.language)
        if query.mode is Mode.SPARSE:
            return _Vectors(None, sparse, ())
        limit_s = _share_s(self._config.embed_timeout_s, self._config.embed_budget)
        embedding = self._embedder.query(query.text, language=collection.language, dense=True, sparse=False)
        try:
            dense, _ = await _within(limit_s, embedding, "embedder")
        except GannetError as error:
            if sparse is None or not len(sparse.indices):
                raise
            return _Vectors(None, sparse, (_skipped("embed", error),))
        return _Vectors(dense, sparse, ())

    async def _candidates(self, collection: Collection, query: Query, vectors: "_Vectors") -> list[Candidate]:
        snapshot = Snapshot(
            collection=collection.name,
            generation=collection.generation,
            qdrant_collection=qdrant_collection(collection.embedding_model, collection.embedding_model_digest),
        )
        limit_s = _share_s(self._config.search_timeout_s, self._config.search_budget)
        finding = self._retriever.search(
            snapshot,
            dense=vectors.dense,
            sparse=vectors.sparse,
            fusion=query.fusion,
            limit=query.rerank.depth if query.rerank else query.top_k,
        )
        return await _within(limit_s, finding, "vector store")

    async def _rank(self, query: Query, candidates: list[Candidate]) -> "_Ranking":
        unranked = tuple(Passage(candidate=candidate, final=candidate.score) for candidate in candidates)
        if query.rerank is None or not candidates:
            return _Ranking(unranked, ())
        try:
            timeout_s = _share_s(self._config.rerank_timeout_s, self._config.rerank_budget)
            texts = [candidate.text for candidate in candidates]
            logits = await self._reranker.scores(query.text, texts, timeout_s=timeout_s)
        except GannetError as error:
            return _Ranking(unranked, (_skipped("rerank", error),))
        return _Ranking(_fused(query.rerank, candidates, logits), ())


class _Vectors(NamedTuple):
    dense: NDArray[np.float32] | None
    sparse: Sparse | None
    degraded: tuple[Degradation, ...]

    @property
    def mode(self) -> Mode:
        """How they find passages: by words alone, by the embedding alone, or by both."""
        if self.dense is None:
            return Mode.SPARSE
        return Mode.HYBRID if self.sparse is not None and len(self.sparse.indices) else Mode.DENSE


class _Ranking(NamedTuple):
    passages: tuple[Passage, ...]
    degraded: tuple[Degradation, ...]


def _fused(
    rerank: Rerank, candidates: list[Candidate], logits: np.ndarray[tuple[int], np.dtype[np.float32]]
) -> tuple[Passage, ...]:
    """Order by z(first stage) + weight · z(logits); ties keep the first stage's order."""
    first = np.array([candidate.score for candidate in candidates], np.float64)
    final = fuse_z_scores(first, logits.astype(np.float64), rerank.weight)
    order = np.argsort(-final, kind="stable")
    return tuple(
        Passage(candidate=candidates[place], final=float(final[place]), rerank=float(logits[place])) for place in order
    )


def _share_s(limit_s: float, share: float) -> float:
    """What a stage may take: its share of what is left of the caller's deadline, at most `limit_s`; raises DeadlineTooShort."""
    return min(limit_s, call.remaining_s(math.inf) * share)


async def _within(limit_s: float, work: Coroutine[Any, Any, T], name: str) -> T:
    """Await `work` for `limit_s` at most, then cancel it and raise StageTimeout."""
    try:
        async with asyncio.timeout(limit_s):
            return await work
    except TimeoutError as error:
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
