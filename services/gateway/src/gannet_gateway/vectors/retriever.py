"""Queries to Qdrant: dense, BM25, or both fused, always inside one collection at one generation.

They are written and read as Qdrant's own messages: its client's models cost a search 0.4 ms more.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray
from qdrant_client import AsyncQdrantClient, grpc
from qdrant_client.conversions.conversion import RestToGrpc

from gannet_gateway.batching import DEFAULT, Batcher, Batching
from gannet_gateway.search.filter import Filter
from gannet_gateway.vectors import lists
from gannet_gateway.vectors.index import ask
from gannet_gateway.vectors.lists import Found, Fusion, Method
from gannet_gateway.vectors.points import CANDIDATE_FIELDS, DENSE, SPARSE, Candidate, Sparse
from gannet_gateway.vectors.visible import Snapshot, around, passages, visible
from gannet_service import call

# A fused list is only as deep as what it is fused from: each stage fetches more than is wanted.
PREFETCH_FACTOR = 4
PREFETCH_MIN = 50
PREFETCH_MAX = 4000
# Passages whose surroundings one request asks for: the embedded Qdrant takes 256 conditions.
NEIGHBOURS_OF_MAX = 50
# How many passages a query may want that shares its request with others.
BATCHED_LIMIT_MAX = 100
# Filters that are kept as messages: one for the readers of a collection's generation.
FILTERS_KEPT_MAX = 256

_PAYLOAD = grpc.WithPayloadSelector(include=grpc.PayloadIncludeSelector(fields=CANDIDATE_FIELDS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrasing:
    """The vectors of another phrasing of the query, and what its lists weigh beside the query's own."""

    dense: NDArray[np.float32] | None
    sparse: Sparse | None
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to look for.

    Attributes:
        dense: f32[D], or None to look by words alone.
        sparse: terms, or None to look by the embedding alone; one without terms (a query of stop words) is left out.
        fusion: of the two, where both are given.
        limit: most candidates.
        narrowed: the caller's filter.
        dense_score_min: least similarity of what the dense stage finds.
        exact: score the dense stage again from full-precision vectors.
        explain: keep each stage's rank and score.
        vectors: names of the vectors to give back.
        phrasings: others that are looked for, too; their lists are fused by reciprocal ranks with the query's.
    """

    dense: NDArray[np.float32] | None
    sparse: Sparse | None
    fusion: Fusion
    limit: int
    narrowed: Filter | None = None
    dense_score_min: float | None = None
    exact: bool = False
    explain: bool = False
    vectors: tuple[str, ...] = ()
    phrasings: tuple[Phrasing, ...] = ()


class Retriever:
    """Finds candidates."""

    def __init__(self, client: AsyncQdrantClient, *, timeout_s: float, batching: Batching = DEFAULT) -> None:
        self._client = client
        self._timeout_s = timeout_s
        self._batches = Batcher(self._query, batching)
        self._filters: LRUCache[Snapshot, grpc.Filter] = LRUCache(FILTERS_KEPT_MAX)

    async def search(self, snapshot: Snapshot, wanted: Wanted) -> list[Found]:
        """The best candidates by falling score: fused if both vectors are given, else of the one that is.

        Qdrant fuses reciprocal ranks itself. What needs the stages' own scores (relative scores, exact, explain) fetches both lists.

        Raises:
            DependencyUnavailable: the vector store does not answer.
        """
        stages = self._stages(snapshot, wanted)
        if not stages:
            return []
        is_fused = len(stages) > 1 or bool(wanted.phrasings)
        if wanted.exact or (is_fused and (wanted.explain or wanted.fusion.method is Method.RELATIVE_SCORE)):
            return await self._by_lists(snapshot, wanted, stages)
        request = _fused(snapshot, wanted, stages) if is_fused else _alone(snapshot, wanted, stages[0], wanted.limit)
        # What costs more goes alone, and so does what a caller wrote: nobody waits for it, or fails with it.
        costs_more = wanted.vectors or wanted.phrasings or wanted.limit > BATCHED_LIMIT_MAX
        if wanted.narrowed is None and not costs_more:
            found = await self._batches.ask(snapshot.qdrant_collection, request)
        else:
            (found,) = await self._query(snapshot.qdrant_collection, [request])
        return _in_order([lists.of_point(point, None if is_fused else stages[0].using) for point in found])

    async def neighbours(
        self, snapshot: Snapshot, candidates: Sequence[Candidate], reach: int
    ) -> list[tuple[Candidate, ...]]:
        """For each candidate the passages of its revision at most `reach` before and behind it, in the document's order.

        Raises:
            DependencyUnavailable: the vector store does not answer.
        """
        stored: dict[tuple[str, int, int], Candidate] = {}
        for at in range(0, len(candidates), NEIGHBOURS_OF_MAX):
            some = candidates[at : at + NEIGHBOURS_OF_MAX]
            page = self._client.scroll(
                snapshot.qdrant_collection,
                scroll_filter=around(snapshot, some, reach),
                limit=len(some) * (2 * reach + 1),
                timeout=self._seconds_left(),
            )
            for record in (await ask(page))[0]:
                near = Candidate.of(record.payload or {}, 0.0)
                stored[near.document.document, near.revision, near.ordinal] = near
        return [
            tuple(
                stored[key]
                for ordinal in range(one.ordinal - reach, one.ordinal + reach + 1)
                if ordinal != one.ordinal and (key := (one.document.document, one.revision, ordinal)) in stored
            )
            for one in candidates
        ]

    async def passages(self, snapshot: Snapshot, document: str, first: int, limit: int) -> list[Candidate]:
        """At most `limit` passages of a document's visible revision, from the ordinal `first` on, in order.

        Raises:
            DependencyUnavailable: the vector store does not answer.
        """
        page = self._client.scroll(
            snapshot.qdrant_collection,
            scroll_filter=passages(snapshot, document, first, first + limit - 1),
            limit=limit,
            timeout=self._seconds_left(),
        )
        found = [Candidate.of(record.payload or {}, 0.0) for record in (await ask(page))[0]]
        return sorted(found, key=lambda one: one.ordinal)

    async def _by_lists(self, snapshot: Snapshot, wanted: Wanted, stages: list["_Stage"]) -> list[Found]:
        requests = [_alone(snapshot, wanted, stage, _depth(wanted.limit)) for stage in stages]
        found: dict[str, list[Found]] = {}
        others: list[tuple[list[Found], float]] = []
        for stage, points in zip(stages, await self._query(snapshot.qdrant_collection, requests), strict=True):
            listed = _in_order([lists.of_point(point, stage.using) for point in points])
            if wanted.exact and stage.dense is not None:
                # What is fused needs the whole list, with everyone's place in it.
                count = wanted.limit if len(stages) == 1 else len(listed)
                listed = lists.rescored(stage.dense, listed, count, wanted.dense_score_min)
            if stage.is_own:
                found[stage.using] = listed
            else:
                others.append((listed, stage.weight))
        fused = lists.fused(found.get(DENSE), found.get(SPARSE), wanted.fusion, others)
        return _in_order(fused)[: wanted.limit]

    async def _query(self, collection: str, requests: list[grpc.QueryPoints]) -> list[Sequence[grpc.ScoredPoint]]:
        timeout_s = self._seconds_left()
        batch = grpc.QueryBatchPoints(collection_name=collection, query_points=requests, timeout=timeout_s)
        reply = await ask(self._client.grpc_points.QueryBatch(batch, timeout=timeout_s))
        return [one.result for one in reply.result]

    def _visible(self, snapshot: Snapshot) -> grpc.Filter:
        """The filter of `visible`, as Qdrant's message."""
        found = self._filters.get(snapshot)
        if found is None:
            found = self._filters[snapshot] = RestToGrpc.convert_filter(visible(snapshot))
        return found

    def _stages(self, snapshot: Snapshot, wanted: Wanted) -> list["_Stage"]:
        everything = self._visible(snapshot)
        narrowed = wanted.narrowed
        seen = everything if narrowed is None else RestToGrpc.convert_filter(visible(snapshot, narrowed))
        # Collection-wide statistics would leak one tenant's words into another's scores; statistics of what the caller's filter lets
        # through would change a passage's score with every filter.
        corpus = grpc.SearchParams(idf=grpc.IdfParams(corpus=everything))
        fusion, stages = wanted.fusion, list[_Stage]()
        for one in (wanted, *wanted.phrasings):
            weight = one.weight if isinstance(one, Phrasing) else 1.0
            if one.dense is not None:
                stage = _Stage(
                    query=grpc.VectorInput(dense=grpc.DenseVector(data=one.dense.tolist())),
                    using=DENSE,
                    filter=seen,
                    params=None,
                    score_min=wanted.dense_score_min,
                    weight=weight * fusion.dense_weight,
                    dense=one.dense,
                    is_own=one is wanted,
                )
                stages.append(stage)
            if one.sparse is not None and len(one.sparse.indices):
                terms = grpc.SparseVector(indices=one.sparse.indices.tolist(), values=one.sparse.values.tolist())
                stage = _Stage(
                    query=grpc.VectorInput(sparse=terms),
                    using=SPARSE,
                    filter=seen,
                    params=corpus,
                    score_min=None,
                    weight=weight * fusion.sparse_weight,
                    is_own=one is wanted,
                )
                stages.append(stage)
        return stages

    def _seconds_left(self) -> int:
        return max(1, round(call.remaining_s(self._timeout_s)))


class _Stage(NamedTuple):
    """One way of finding: a query vector, the vector that it is compared with, and who may be found; not `is_own` for other phrasings."""

    query: grpc.VectorInput
    using: str
    filter: grpc.Filter
    params: grpc.SearchParams | None
    score_min: float | None
    weight: float
    dense: NDArray[np.float32] | None = None
    is_own: bool = True


def _alone(snapshot: Snapshot, wanted: Wanted, stage: _Stage, limit: int) -> grpc.QueryPoints:
    vectors = {*wanted.vectors, DENSE} if wanted.exact and stage.using == DENSE else wanted.vectors
    return grpc.QueryPoints(
        collection_name=snapshot.qdrant_collection,
        query=grpc.Query(nearest=stage.query),
        using=stage.using,
        filter=stage.filter,
        params=stage.params,
        score_threshold=stage.score_min,
        limit=limit,
        with_payload=_PAYLOAD,
        with_vectors=_vectors(vectors),
    )


def _fused(snapshot: Snapshot, wanted: Wanted, stages: list[_Stage]) -> grpc.QueryPoints:
    prefetch = [
        grpc.PrefetchQuery(
            query=grpc.Query(nearest=stage.query),
            using=stage.using,
            filter=stage.filter,
            params=stage.params,
            score_threshold=stage.score_min,
            limit=_depth(wanted.limit),
        )
        for stage in stages
    ]
    rrf = grpc.Rrf(k=wanted.fusion.k, weights=[stage.weight for stage in stages])
    return grpc.QueryPoints(
        collection_name=snapshot.qdrant_collection,
        prefetch=prefetch,
        query=grpc.Query(rrf=rrf),
        limit=wanted.limit,
        with_payload=_PAYLOAD,
        with_vectors=_vectors(wanted.vectors),
    )


def _vectors(names: Collection[str]) -> grpc.WithVectorsSelector | None:
    return grpc.WithVectorsSelector(include=grpc.VectorsSelector(names=sorted(names))) if names else None


def _depth(limit: int) -> int:
    return min(PREFETCH_MAX, max(PREFETCH_MIN, PREFETCH_FACTOR * limit))


def _in_order(found: list[Found]) -> list[Found]:
    """By falling score. Reciprocal ranks tie often (first of one stage, first of the other), and Qdrant breaks ties by where points lie."""
    return sorted(found, key=lambda one: (-one.candidate.score, one.candidate.document, one.candidate.ordinal))
