"""Pseudo-relevance feedback: the best passages of a first search move the query towards themselves."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gannet_gateway.vectors.lists import Found
from gannet_gateway.vectors.points import Sparse

# Terms that feedback adds to the query, those of the greatest mean weight; their IDF is the index's part.
TERMS_MAX = 20


def moved_dense(query: NDArray[np.float32], found: Sequence[Found], weight: float) -> NDArray[np.float32]:
    """Rocchio (1971) without negatives: query + weight · mean of the passages' vectors, of length 1 again."""
    rows = [one.dense_vector for one in found if one.dense_vector is not None]
    if not rows:
        return query
    moved = query + weight * np.mean(rows, axis=0)
    length = float(np.linalg.norm(moved))
    return (moved / length).astype(np.float32) if length > 0 else query


def moved_sparse(query: Sparse, found: Sequence[Found], weight: float) -> Sparse:
    """As RM3 (Abdul-Jaleel et al. 2004) does it: the passages' weightiest terms, together `weight` times as heavy as the query's."""
    totals: defaultdict[int, float] = defaultdict(float)
    for one in found:
        if one.sparse_vector is not None:
            pairs = zip(one.sparse_vector.indices.tolist(), one.sparse_vector.values.tolist(), strict=True)
            for term, value in pairs:
                totals[term] += value
    # Ties by term id, so that a query is expanded in one way.
    added = sorted(totals.items(), key=lambda entry: (-entry[1], entry[0]))[:TERMS_MAX]
    mass = sum(value for _, value in added)
    if mass <= 0:
        return query
    weights = defaultdict(float, zip(query.indices.tolist(), query.values.tolist(), strict=True))
    scale = weight * float(query.values.sum()) / mass
    for term, value in added:
        weights[term] += value * scale
    terms = sorted(weights)
    return Sparse(indices=np.array(terms, np.uint32), values=np.array([weights[term] for term in terms], np.float32))
