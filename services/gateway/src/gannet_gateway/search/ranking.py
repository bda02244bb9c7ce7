"""Orders of candidates after the first stage: reranked, at most so many of a document, unlike each other."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gannet_gateway.vectors.lists import Found
from gannet_kernels.diversity import mmr
from gannet_kernels.fusion import fuse_z_scores, order_descending, relative_scores


class Ranked(NamedTuple):
    """A candidate in its place. `rerank` is the logit, if the cross-encoder read it."""

    found: Found
    final: float
    rerank: float | None = None


def unranked(found: Sequence[Found]) -> list[Ranked]:
    """The first stage's order and scores."""
    return [Ranked(one, one.candidate.score) for one in found]


def reranked(found: Sequence[Found], logits: NDArray[np.float32], weight: float) -> list[Ranked]:
    """By z(first stage) + weight · z(logits); ties keep the first stage's order."""
    first = np.array([one.candidate.score for one in found], np.float64)
    final = fuse_z_scores(first, logits.astype(np.float64), weight)
    return [Ranked(found[place], float(final[place]), float(logits[place])) for place in order_descending(final)]


def at_most_of_a_document(found: Sequence[Found], most: int) -> list[Found]:
    """`found` without what comes after the first `most` passages of its document."""
    seen: Counter[str] = Counter()
    kept: list[Found] = []
    for one in found:
        seen[one.candidate.document.document] += 1
        if seen[one.candidate.document.document] <= most:
            kept.append(one)
    return kept


def diversified(ranked: Sequence[Ranked], count: int, balance: float) -> list[Ranked]:
    """The first `count` picks of maximal marginal relevance: relevance is `final`, scaled to 0..1, likeness the cosine.

    Scores stay as they are, so that they no longer fall from pick to pick.
    """
    rows = [one.found.dense_vector for one in ranked if one.found.dense_vector is not None]
    if len(rows) < max(2, len(ranked)):
        return list(ranked[:count])
    relevance = relative_scores(np.array([one.final for one in ranked], np.float64)).astype(np.float32)
    return [ranked[place] for place in mmr(relevance, np.array(rows), count, balance)]
