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


def relative_scores(scores: list[float]) -> np.ndarray:
    """From the least to the greatest as 0 to 1; 1 where all are equal, 0 for those that are NaN."""
    values = np.array(scores, dtype=np.float64)
    known = values[~np.isnan(values)]
    if len(set(known.tolist())) <= 1:
        return np.where(np.isnan(values), 0.0, 1.0)
    return np.nan_to_num((values - known.min()) / (known.max() - known.min()))


def fuse_relative_scores(first: list[float], second: list[float], weight: float) -> np.ndarray:
    """(1 - weight)·relative(first) + weight·relative(second)."""
    return (1 - weight) * relative_scores(first) + weight * relative_scores(second)


def order_descending(scores: list[float]) -> list[int]:
    """Greatest first, NaN last, equal scores in their old order: Python's sort is stable."""
    return sorted(range(len(scores)), key=lambda place: (np.isnan(scores[place]), -scores[place]))
