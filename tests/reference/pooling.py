"""Naive references of `gannet_kernels.pooling`."""

import numpy as np


def mean_pool(hidden: np.ndarray, mask: np.ndarray, *, normalise: bool) -> np.ndarray:
    """Mean of the kept rows in float64, scaled to length 1 unless it is zero."""
    kept = hidden[mask != 0].astype(np.float64)
    mean = kept.mean(axis=0) if len(kept) else np.zeros(hidden.shape[1])
    norm = np.linalg.norm(mean)
    return mean / norm if normalise and norm > 0 else mean
