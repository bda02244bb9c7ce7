"""One search: snapshot, embed, retrieve, rerank. This is the whole path."""

import math
import time
from typing import NamedTuple

import numpy as np

from gannet_gateway.clients import Embedder, Reranker
from gannet_gateway.config import GatewayConfig
from gannet_gateway.ledger.records import Collection
from gannet_gateway.search.query import Degradation, Mode, Passage, Query, Rerank, Result, Timings
from gannet_gateway.vectors.points import Candidate, qdrant_collection
from gannet_gateway.vectors.retriever import Retriever, Snapshot
from gannet_kernels.fusion import fuse_z_scores
from gannet_service import call
from gannet_service.errors import DeadlineTooShort, GannetError, InternalError, InvalidInput


class Searcher:
    """Runs searches."""

    def __init__(self, embedder: Embedder, retriever: Retriever, reranker: Reranker, config: GatewayConfig) -> None:
        self._embedder = embedder
        self._retriever = retriever
        self._reranker = reranker
        self._config = config

    async def search(self, collection: Collection, query: Query) -> Result:
        """The best passages of `collection`, read once before, for `query`.

        Raises:
            GannetError: the embedder or the vector store failed, or the deadline passed. A reranker that fails is skipped.
        """
        started = time.perf_counter()
        dense, sparse = await self._embedder.query(
            query.text,
            language=collection.language,
            dense=query.mode is not Mode.SPARSE,
            sparse=query.mode is not Mode.DENSE,
        )
        embedded = time.perf_counter()
        candidates = await self._retriever.search(
            Snapshot(
                collection=collection.name,
                generation=collection.generation,
                qdrant_collection=qdrant_collection(collection.embedding_model, collection.embedding_model_digest),
            ),
            dense=dense,
            sparse=sparse,
            fusion=query.fusion,
            limit=query.rerank.depth if query.rerank else query.top_k,
        )
        retrieved = time.perf_counter()
        ranking = await self._rank(query, candidates)
        ended = time.perf_counter()
        return Result(
            mode=query.mode,
            passages=ranking.passages[: query.top_k],
            generation=collection.generation,
            degraded=ranking.degraded,
            timings=Timings(
                embed_us=_us(embedded - started),
                search_us=_us(retrieved - embedded),
                rerank_us=_us(ended - retrieved) if query.rerank else 0,
                total_us=_us(ended - started),
            ),
        )

    async def _rank(self, query: Query, candidates: list[Candidate]) -> "_Ranking":
        unranked = tuple(Passage(candidate=candidate, final=candidate.score) for candidate in candidates)
        if query.rerank is None or not candidates:
            return _Ranking(unranked, ())
        try:
            timeout_s = call.remaining_s(self._config.rerank_timeout_s) * self._config.rerank_budget
            texts = [candidate.text for candidate in candidates]
            logits = await self._reranker.scores(query.text, texts, timeout_s=timeout_s)
        except (InvalidInput, InternalError) as error:
            return _Ranking(unranked, (Degradation(stage="rerank", reason=error.reason),))
        except GannetError as error:
            call.remaining_s(math.inf)  # the caller's own deadline is no degradation
            reason = "DEADLINE" if isinstance(error, DeadlineTooShort) else error.code.name
            return _Ranking(unranked, (Degradation(stage="rerank", reason=reason),))
        return _Ranking(_fused(query.rerank, candidates, logits), ())


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


def _us(seconds: float) -> int:
    return round(seconds * 1e6)
