"""Naive references of `gannet_kernels.sampling`."""

import math

import numpy as np

WRAP = 1 << 64


def uniform(seed: int, position: int) -> float:
    """SplitMix64 by counter, on Python's integers."""
    state = (_mix(seed) + (position + 1) * 0x9E3779B97F4A7C15) % WRAP
    return (_mix(state) >> 11) / (1 << 53)


def penalise(  # noqa: PLR0917 - as the kernel
    logits: list[float], prompt: set[int], said: list[int], repetition: float, presence: float, frequency: float
) -> list[float]:
    """One token after the other, as the papers have it."""
    lowered = list(logits)
    for token, value in enumerate(logits):
        if token in prompt or token in said:
            lowered[token] = value / repetition if value > 0 else value * repetition
        if token in said:
            lowered[token] -= presence + frequency * said.count(token)
    return lowered


def kept(logits: list[float], temperature: float, top_k: int, top_p: float, min_p: float) -> dict[int, float]:
    """The tokens that may be drawn, in the order of ids, with their probabilities; temperature > 0."""
    order = sorted(range(len(logits)), key=lambda token: (-logits[token], token))
    best = logits[order[0]]
    weights = {token: math.exp((logits[token] - best) / temperature) for token in order}
    order = [token for token in order if (best - logits[token]) / temperature < 80]
    if top_k:
        order = order[:top_k]
    total = sum(weights[token] for token in order)
    nucleus: list[int] = []
    for token in order:
        if nucleus and sum(weights[one] for one in nucleus) >= top_p * total and top_p < 1:
            break
        nucleus.append(token)
    nucleus = [token for token in nucleus if weights[token] >= min_p]
    total = sum(weights[token] for token in nucleus)
    return {token: weights[token] / total for token in sorted(nucleus)}


def draw(probabilities: dict[int, float], share: float) -> int:
    """The token that the share falls to."""
    passed = 0.0
    for token, probability in probabilities.items():
        passed += probability
        if passed > share:
            return token
    return max(probabilities)


def log_probabilities(logits: list[float]) -> np.ndarray:
    """The logarithm of the softmax."""
    values = np.array(logits, dtype=np.float64)
    shifted = values - values.max()
    return shifted - np.log(np.exp(shifted).sum())


def _mix(value: int) -> int:
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % WRAP
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB % WRAP
    return value ^ (value >> 31)
