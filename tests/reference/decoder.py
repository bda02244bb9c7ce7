"""A plain NumPy decoder of the Llama, Qwen2 and Phi families with random weights: one text, no cache, float32 weights."""

from dataclasses import dataclass

import numpy as np

Weights = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A decoder's dimensions; `biases` on query, key and value are what Qwen2 adds to Llama.

    `phi`: attention and a GELU without gate side by side behind one LayerNorm, biases everywhere, half of a head rotated.
    """

    layers: int = 2
    hidden: int = 64
    heads: int = 4
    kv_heads: int = 2
    inner: int = 96
    vocabulary: int = 300
    positions: int = 128
    biases: bool = False
    phi: bool = False
    theta: float = 10_000.0
    epsilon: float = 1e-5

    @property
    def head(self) -> int:
        """Components of one head."""
        return self.hidden // self.heads

    @property
    def rotated(self) -> int:
        """Components of a head that are rotated, the first ones."""
        return self.head // 2 if self.phi else self.head

    def linears(self) -> dict[str, tuple[int, int]]:
        """(in, out) of a layer's products."""
        kv = self.kv_heads * self.head
        gate = {} if self.phi else {"gate": (self.hidden, self.inner)}
        return gate | {
            "query": (self.hidden, self.hidden),
            "key": (self.hidden, kv),
            "value": (self.hidden, kv),
            "output": (self.hidden, self.hidden),
            "up": (self.hidden, self.inner),
            "down": (self.inner, self.hidden),
        }


def random_weights(shape: Shape, *, seed: int = 0) -> Weights:
    """Weights that keep activations near 1 and give logits that differ clearly."""
    random = np.random.default_rng(seed)

    def normal(*size: int, scale: float) -> np.ndarray:
        return random.standard_normal(size, dtype=np.float32) * np.float32(scale)

    weights = {
        "embedding": normal(shape.vocabulary, shape.hidden, scale=1.0),
        "norm": 1 + normal(shape.hidden, scale=0.1),
        "head": normal(shape.hidden, shape.vocabulary, scale=3 * shape.hidden**-0.5),
    }
    for layer in range(shape.layers):
        for name, (rows, columns) in shape.linears().items():
            weights[f"{layer}.{name}"] = normal(rows, columns, scale=rows**-0.5)
            if shape.phi or (shape.biases and name in {"query", "key", "value"}):
                weights[f"{layer}.{name}.bias"] = normal(columns, scale=0.3)
        for name in ("norm_1", "norm_2"):
            weights[f"{layer}.{name}"] = 1 + normal(shape.hidden, scale=0.1)
    if shape.phi:
        weights["head.bias"] = normal(shape.vocabulary, scale=1.0)
        for name in ("norm", *(f"{layer}.norm_1" for layer in range(shape.layers))):
            weights[f"{name}.bias"] = normal(shape.hidden, scale=0.3)
    return weights


def rotary_tables(shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines, f32[positions, rotated / 2]."""
    frequencies = shape.theta ** (-np.arange(0, shape.rotated, 2) / shape.rotated)
    angles = np.arange(shape.positions)[:, None] * frequencies[None, :]
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def logits(shape: Shape, weights: Weights, ids: list[int]) -> np.ndarray:
    """f64[T, V]: the logits behind every token of a text."""
    hidden = weights["embedding"][ids].astype(np.float64)
    for layer in range(shape.layers):
        normed = _norm(shape, weights, f"{layer}.norm_1", hidden)
        attended = _attention(shape, weights, layer, normed)
        if shape.phi:
            inner = _gelu(_linear(weights, f"{layer}.up", normed))
            hidden += attended + _linear(weights, f"{layer}.down", inner)
            continue
        hidden += attended
        normed = _norm(shape, weights, f"{layer}.norm_2", hidden)
        gate = normed @ weights[f"{layer}.gate"]
        hidden += (gate / (1 + np.exp(-gate)) * (normed @ weights[f"{layer}.up"])) @ weights[f"{layer}.down"]
    return _linear(weights, "head", _norm(shape, weights, "norm", hidden))


def greedy(shape: Shape, weights: Weights, ids: list[int], count: int) -> tuple[list[int], float]:
    """The next `count` tokens, and the least margin by which one of them was the best."""
    said, margin = list(ids), np.inf
    for _ in range(count):
        last = logits(shape, weights, said)[-1]
        first, second = np.sort(last)[::-1][:2]
        margin = min(margin, first - second)
        said.append(int(last.argmax()))
    return said[len(ids) :], margin


def _linear(weights: Weights, name: str, hidden: np.ndarray) -> np.ndarray:
    return hidden @ weights[name] + weights.get(f"{name}.bias", 0)


def _norm(shape: Shape, weights: Weights, name: str, hidden: np.ndarray) -> np.ndarray:
    """LayerNorm for Phi, else RMSNorm."""
    centred = hidden - hidden.mean(axis=-1, keepdims=True) if shape.phi else hidden
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + shape.epsilon)
    return scaled * weights[name] + weights.get(f"{name}.bias", 0)


def _gelu(values: np.ndarray) -> np.ndarray:
    """The approximation by tanh, Phi's `gelu_new`."""
    return 0.5 * values * (1 + np.tanh(np.sqrt(2 / np.pi) * (values + 0.044715 * values**3)))


def _attention(shape: Shape, weights: Weights, layer: int, hidden: np.ndarray) -> np.ndarray:
    length = len(hidden)
    parts: dict[str, np.ndarray] = {}
    for name, heads in (("query", shape.heads), ("key", shape.kv_heads), ("value", shape.kv_heads)):
        part = _linear(weights, f"{layer}.{name}", hidden)
        parts[name] = part.reshape(length, heads, shape.head).transpose(1, 0, 2)
    group = shape.heads // shape.kv_heads
    query, key = _rotate(shape, parts["query"]), _rotate(shape, parts["key"]).repeat(group, axis=0)
    scores = query @ key.transpose(0, 2, 1) / np.sqrt(shape.head)
    scores = np.where(np.tril(np.ones((length, length))), scores, -np.inf)
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    mixed = shares @ parts["value"].repeat(group, axis=0)
    return _linear(weights, f"{layer}.output", mixed.transpose(1, 0, 2).reshape(length, shape.hidden))


def _rotate(shape: Shape, states: np.ndarray) -> np.ndarray:
    cos, sin = (table[: states.shape[1]] for table in rotary_tables(shape))
    half = shape.rotated // 2
    first, second, rest = np.split(states, [half, 2 * half], axis=-1)
    return np.concatenate((first * cos - second * sin, second * cos + first * sin, rest), axis=-1)
