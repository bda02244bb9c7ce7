"""A naive NumPy forward pass of BERT and RoBERTa in float64, one sequence at a time, no padding."""

import math
from collections.abc import Mapping

import numpy as np

Weights = Mapping[str, np.ndarray]


def encode(
    weights: Weights, ids: list[int], types: list[int], *, heads: int, epsilon: float, first_position: int = 0
) -> np.ndarray:
    """Token embeddings of the last layer: f64[T, D]."""
    w = {name: tensor.astype(np.float64) for name, tensor in weights.items()}
    hidden = np.stack(
        [
            w["embeddings.word_embeddings.weight"][word]
            + w["embeddings.position_embeddings.weight"][first_position + place]
            + w["embeddings.token_type_embeddings.weight"][kind]
            for place, (word, kind) in enumerate(zip(ids, types, strict=True))
        ]
    )
    hidden = _layer_norm(w, "embeddings.LayerNorm", hidden, epsilon)
    layer = 0
    while f"encoder.layer.{layer}.output.dense.weight" in w:
        at = f"encoder.layer.{layer}"
        attended = _attention(w, f"{at}.attention.self", hidden, heads)
        attended = _linear(w, f"{at}.attention.output.dense", attended)
        hidden = _layer_norm(w, f"{at}.attention.output.LayerNorm", attended + hidden, epsilon)
        inner = _gelu(_linear(w, f"{at}.intermediate.dense", hidden))
        outer = _linear(w, f"{at}.output.dense", inner)
        hidden = _layer_norm(w, f"{at}.output.LayerNorm", outer + hidden, epsilon)
        layer += 1
    return hidden


def classify(weights: Weights, hidden: np.ndarray, *, dense: str, out: str) -> float:
    """The first token's logit."""
    return float(_linear(weights, out, np.tanh(_linear(weights, dense, hidden[:1])))[0, 0])


def _linear(w: Weights, name: str, x: np.ndarray) -> np.ndarray:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def _layer_norm(w: Weights, name: str, x: np.ndarray, epsilon: float) -> np.ndarray:
    centred = x - x.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon)
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def _gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def _attention(w: Weights, name: str, x: np.ndarray, heads: int) -> np.ndarray:
    query, key, value = (_linear(w, f"{name}.{part}", x) for part in ("query", "key", "value"))
    width = x.shape[1] // heads
    mixed = []
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        scores = query[:, part] @ key[:, part].T / math.sqrt(width)
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed.append(shares / shares.sum(axis=-1, keepdims=True) @ value[:, part])
    return np.concatenate(mixed, axis=-1)
