"""Queries to Qdrant: dense, BM25, or both fused by reciprocal rank, always inside one collection at one generation."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from qdrant_client import AsyncQdrantClient, models

from gannet_gateway.names import CollectionName
from gannet_gateway.vectors.index import ask
from gannet_gateway.vectors.points import DENSE, SPARSE, Candidate, Sparse
from gannet_service import call

# A fused list is only as deep as what it is fused from: each stage fetches more than is wanted.
PREFETCH_FACTOR = 4
PREFETCH_MIN = 50
PREFETCH_MAX = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Fusion:
    """Reciprocal rank fusion; see FusionOptions in search.proto."""

    k: int
    dense_weight: float
    sparse_weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a search sees: one collection at one generation, in the Qdrant collection that holds its vectors."""

    collection: CollectionName
    generation: int
    qdrant_collection: str


class Retriever:
    """Finds candidates."""

    def __init__(self, client: AsyncQdrantClient, *, timeout_s: float) -> None:
        self._client = client
        self._timeout_s = timeout_s

    async def search(
        self,
        snapshot: Snapshot,
        *,
        dense: NDArray[np.float32] | None,
        sparse: Sparse | None,
        fusion: Fusion,
        limit: int,
    ) -> list[Candidate]:
        """The best candidates by falling score: fused if both vectors are given, else of the one that is.

        A sparse vector without terms (a query of stop words) is left out.

        Raises:
            DependencyUnavailable: the vector store does not answer.
        """
        visible = _visible(snapshot)
        stages = _stages(dense, sparse, visible)
        if not stages:
            return []
        timeout_s = max(1, round(call.remaining_s(self._timeout_s)))
        if len(stages) == 1:
            query, using, params = stages[0]
            request = self._client.query_points(
                snapshot.qdrant_collection,
                query=query,
                using=using,
                query_filter=visible,
                search_params=params,
                limit=limit,
                timeout=timeout_s,
            )
        else:
            depth = min(PREFETCH_MAX, max(PREFETCH_MIN, PREFETCH_FACTOR * limit))
            prefetch = [
                models.Prefetch(query=query, using=using, filter=visible, params=params, limit=depth)
                for query, using, params in stages
            ]
            rrf = models.Rrf(k=fusion.k, weights=[fusion.dense_weight, fusion.sparse_weight])
            request = self._client.query_points(
                snapshot.qdrant_collection,
                prefetch=prefetch,
                query=models.RrfQuery(rrf=rrf),
                limit=limit,
                timeout=timeout_s,
            )
        points = (await ask(request)).points
        found = [Candidate.of(point.payload or {}, point.score) for point in points]
        # Reciprocal ranks tie often (first of one stage, first of the other), and Qdrant breaks ties by where points happen to lie.
        return sorted(found, key=lambda candidate: (-candidate.score, candidate.document, candidate.ordinal))


def _visible(snapshot: Snapshot) -> models.Filter:
    """The one filter: this tenant, this collection, this generation. Every stage carries it, and so does the IDF corpus."""
    name, generation = snapshot.collection, snapshot.generation
    return models.Filter(
        must=[
            models.FieldCondition(key="tenant", match=models.MatchValue(value=name.tenant)),
            models.FieldCondition(key="collection", match=models.MatchValue(value=name.collection)),
            models.FieldCondition(key="gen_from", range=models.Range(lte=generation)),
            models.FieldCondition(key="gen_to", range=models.Range(gt=generation)),
        ]
    )


def _stages(
    dense: NDArray[np.float32] | None, sparse: Sparse | None, visible: models.Filter
) -> list[tuple[list[float] | models.SparseVector, str, models.SearchParams | None]]:
    stages: list[tuple[list[float] | models.SparseVector, str, models.SearchParams | None]] = []
    if dense is not None:
        stages.append((dense.tolist(), DENSE, None))
    if sparse is not None and len(sparse.indices):
        vector = models.SparseVector(indices=sparse.indices.tolist(), values=sparse.values.tolist())
        # Collection-wide statistics would leak one tenant's words into another's scores.
        stages.append((vector, SPARSE, models.SearchParams(idf=models.IdfCorpusParams(corpus=visible))))
    return stages
