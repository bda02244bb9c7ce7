"""Naive references of `gannet_kernels.pooling`."""

import numpy as np


def pool(kind: str, rows: np.ndarray, *, normalise: bool) -> np.ndarray:
    """The mean, maximum or first of a text's rows in float64, scaled to length 1 unless it is zero."""
    kept = rows.astype(np.float64)
    if len(kept) == 0:
        return np.zeros(rows.shape[1])
    pooled = {"mean": kept.mean(axis=0), "max": kept.max(axis=0), "cls": kept[0]}[kind]
    norm = np.linalg.norm(pooled)
    return pooled / norm if normalise and norm > 0 else pooled


def mean_pool(hidden: np.ndarray, mask: np.ndarray, *, normalise: bool) -> np.ndarray:
    """The mean of the rows whose mask is not zero."""
    return pool("mean", hidden[mask != 0], normalise=normalise)
