"""Naive references of `gannet_kernels.fusion`."""

import numpy as np


def z_scores(scores: list[float]) -> np.ndarray:
    """Mean 0, standard deviation 1; zeros where the scores are all equal."""
    values = np.array(scores, dtype=np.float64)
    if len(set(scores)) <= 1:
        return np.zeros(len(scores))
    return (values - values.mean()) / values.std()


def fuse_z_scores(first: list[float], logits: list[float], weight: float) -> np.ndarray:
    """z(first) + weight·z(logits)."""
    return z_scores(first) + weight * z_scores(logits)


def order_descending(scores: list[float]) -> list[int]:
    """Greatest first, NaN last, equal scores in their old order: Python's sort is stable."""
    return sorted(range(len(scores)), key=lambda place: (np.isnan(scores[place]), -scores[place]))
