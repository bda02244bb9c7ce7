"""Naive references of `gannet_kernels.similarity`."""

import numpy as np


def dot_scores(query: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Sums of products in float64."""
    return rows.astype(np.float64) @ query.astype(np.float64)


def top_k(scores: list[float], k: int) -> list[int]:
    """The first k of a stable sort: greatest first, NaN last."""
    return sorted(range(len(scores)), key=lambda place: (np.isnan(scores[place]), -scores[place]))[:k]
