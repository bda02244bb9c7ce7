"""Lists that stages found: scored again, ranked, fused."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
from numpy.typing import NDArray
from qdrant_client import grpc, models
from qdrant_client.conversions.conversion import GrpcToRest, grpc_to_payload

from gannet_gateway.vectors.points import DENSE, SPARSE, Candidate, Sparse
from gannet_kernels.fusion import fuse_relative_scores
from gannet_kernels.similarity import exact_top_k


class Method(Enum):
    """How two lists become one."""

    RRF = "rrf"
    RELATIVE_SCORE = "relative_score"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fusion:
    """See FusionOptions in search.proto."""

    method: Method = Method.RRF
    k: int
    dense_weight: float
    sparse_weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A candidate's place in the list of one stage: `rank` from 1, None where the lists were not looked at."""

    score: float
    rank: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A candidate, the stages that found it as far as they were looked at, and its vectors if they were asked for."""

    candidate: Candidate
    dense: Placed | None = None
    sparse: Placed | None = None
    dense_vector: NDArray[np.float32] | None = None
    sparse_vector: Sparse | None = None


def of_point(point: grpc.ScoredPoint, using: str | None) -> Found:
    """What Qdrant found, by the vector `using`, or by a fusion that leaves the stages' scores out."""
    stored = point.vectors.vectors.vectors
    vectors = {name: GrpcToRest.convert_vector_output(stored[name]) for name in stored}
    dense, sparse = vectors.get(DENSE), vectors.get(SPARSE)
    placed = Placed(score=point.score)
    return Found(
        candidate=Candidate.of(grpc_to_payload(point.payload), point.score),
        dense=placed if using == DENSE else None,
        sparse=placed if using == SPARSE else None,
        dense_vector=np.array(dense, np.float32) if isinstance(dense, list) else None,
        sparse_vector=_sparse(sparse) if isinstance(sparse, models.SparseVector) else None,
    )


def rescored(query: NDArray[np.float32], found: Sequence[Found], count: int, score_min: float | None) -> list[Found]:
    """The best `count` of `found` by the cosine of their full-precision vectors, best first, equals in the order of `found`.

    Vectors have length 1, as Qdrant keeps what it compares by cosine; the query is given it here. Those below `score_min`
    are left out.
    """
    if not found:
        return []
    length = float(np.linalg.norm(query)) or 1.0
    places, scores = exact_top_k(query / np.float32(length), np.array([one.dense_vector for one in found]), count)
    return [
        replace(found[place], candidate=replace(found[place].candidate, score=score), dense=Placed(score=score))
        for place, score in zip(places.tolist(), scores.tolist(), strict=True)
        if score_min is None or score >= score_min
    ]


def fused(
    dense: Sequence[Found] | None,
    sparse: Sequence[Found] | None,
    fusion: Fusion,
    others: Sequence[tuple[Sequence[Found], float]] = (),
) -> list[Found]:
    """The candidates of both lists with their fused score and their rank in each, in no order; of one list alone as they are.

    Reciprocal ranks are Qdrant's: the sum over lists of 1 / ((place + 1) / weight + k - 1), places from 0. `others` are lists of other
    phrasings with their weights, for which there are reciprocal ranks only; the places in them are not kept.
    """
    if (dense is None or sparse is None) and not others:
        return [*(dense or ()), *(sparse or ())]
    both: dict[tuple[str, int, int], Found] = {}
    for rank, one in enumerate(dense or (), 1):
        both[_key(one)] = replace(one, dense=Placed(score=one.candidate.score, rank=rank))
    for rank, one in enumerate(sparse or (), 1):
        placed = Placed(score=one.candidate.score, rank=rank)
        both[_key(one)] = replace(both.get(_key(one), one), sparse=placed)
    elsewhere: defaultdict[tuple[str, int, int], float] = defaultdict(float)
    for listed, weight in others:
        for rank, one in enumerate(listed, 1):
            both.setdefault(_key(one), replace(one, dense=None, sparse=None))
            elsewhere[_key(one)] += 1 / (rank / weight + fusion.k - 1)
    candidates = list(both.values())
    if fusion.method is Method.RRF:
        scores = [
            _reciprocal(one.dense, fusion.dense_weight, fusion.k)
            + _reciprocal(one.sparse, fusion.sparse_weight, fusion.k)
            + elsewhere[_key(one)]
            for one in candidates
        ]
    else:
        share = fusion.sparse_weight / (fusion.dense_weight + fusion.sparse_weight)
        first = np.array([_score(one.dense) for one in candidates], np.float64)
        second = np.array([_score(one.sparse) for one in candidates], np.float64)
        scores = fuse_relative_scores(first, second, share).tolist()
    return [
        replace(one, candidate=replace(one.candidate, score=score))
        for one, score in zip(candidates, scores, strict=True)
    ]


def _score(placed: Placed | None) -> float:
    return np.nan if placed is None else placed.score


def _reciprocal(placed: Placed | None, weight: float, k: int) -> float:
    return 0.0 if placed is None or placed.rank is None else 1 / (placed.rank / weight + k - 1)


def _key(one: Found) -> tuple[str, int, int]:
    return one.candidate.document.document, one.candidate.revision, one.candidate.ordinal


def _sparse(vector: models.SparseVector) -> Sparse:
    return Sparse(indices=np.array(vector.indices, np.uint32), values=np.array(vector.values, np.float32))
