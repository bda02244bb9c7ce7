"""Naive reference of `gannet_kernels.diversity`."""

import numpy as np


def mmr(relevance: list[float], rows: np.ndarray, k: int, balance: float) -> list[int]:
    """Carbonell & Goldstein's formula, every pick from scratch; NaN last, ties to the lower place."""
    vectors = rows.astype(np.float64)
    picked: list[int] = []
    while len(picked) < min(k, len(relevance)):
        left = [place for place in range(len(relevance)) if place not in picked]
        value = {
            place: balance * relevance[place]
            - (1 - balance) * max(float(vectors[place] @ vectors[pick]) for pick in picked)
            if picked
            else relevance[place]
            for place in left
        }
        picked.append(min(left, key=lambda place: (np.isnan(value[place]), -value[place], place)))
    return picked
