"""Writes the ONNX graph of a BERT-family encoder straight from its weights.

Attention is one ONNX Runtime operator per layer, fed by three products that share one quantised input: no transposes and no
joined weights to split again (docs/adr/0011). The rest is plain ONNX, which ONNX Runtime fuses as far as it pays.
Equations: Devlin et al. 2019 on Vaswani et al. 2017; the naive NumPy forward pass that the tests compare with is
`tests/reference/bert.py`.
"""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from gannet_inference.errors import BadWeights
from gannet_inference.manifest import Kind
from gannet_inference.weights import Architecture, Weights

# Part of every model digest: raise it when a change here or in `quantise` changes what a built model computes.
GRAPH_REVISION = 2

_OPSET = 20  # the first with Gelu
_ORT_DOMAIN, _ORT_OPSET = "com.microsoft", 1
_IR_VERSION = 10  # the newest that the oldest supported ONNX Runtime (1.22) reads


def write_graph(
    weights: Weights,
    architecture: Architecture,
    *,
    kind: Kind,
    model: str,
    padded: bool = False,
    half: bool = False,
) -> onnx.ModelProto:
    """Writes the graph from input_ids and token_type_ids, both i64[B, T].

    Args:
        weights: the encoder's, and for a cross-encoder the classifier's.
        architecture: their shape.
        kind: what the output is.
        model: whose errors these are.
        padded: read attention_mask too, i64[B, T]: ones for a text's tokens, then zeros. Without it nothing may be padded,
            and attention is faster on a CPU.
        half: compute in float16; the output stays float32.

    Returns:
        A model whose output is last_hidden_state f32[B, T, D], or logits f32[B, 1] for a cross-encoder.

    Raises:
        BadWeights: a tensor is missing or has the wrong shape.
    """
    writer = _Writer(weights, model, half=half)
    hidden = _embed(writer, architecture)
    lengths = _lengths(writer) if padded else None
    for layer in range(architecture.layers):
        hidden = _layer(writer, architecture, hidden, f"encoder.layer.{layer}", lengths)
    if kind == "cross-encoder":
        output, shape = _classify(writer, hidden, architecture.hidden), ["batch", 1]
    else:
        output, shape = writer.name(hidden, "last_hidden_state"), ["batch", "tokens", architecture.hidden]
    inputs = ("input_ids", "token_type_ids", *(["attention_mask"] if padded else []))
    graph = helper.make_graph(
        writer.nodes,
        model,
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"]) for name in inputs],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
        writer.initialisers,
    )
    return helper.make_model(
        graph,
        producer_name="gannet",
        ir_version=_IR_VERSION,
        opset_imports=[helper.make_opsetid("", _OPSET), helper.make_opsetid(_ORT_DOMAIN, _ORT_OPSET)],
    )


class _Writer:
    """Collects nodes and initialisers; every method returns the name of its output."""

    def __init__(self, weights: Weights, model: str, *, half: bool) -> None:
        self._half = half
        self.nodes: list[onnx.NodeProto] = []
        self.initialisers: list[onnx.TensorProto] = []
        self._weights = weights
        self._model = model
        self._constants: set[str] = set()

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        output = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def name(self, value: str, output: str) -> str:
        """Gives a value its public name and type."""
        self.nodes.append(helper.make_node("Cast", [value], [output], to=TensorProto.FLOAT))
        return output

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        if name not in self._constants:
            self._constants.add(name)
            if self._half and value.dtype == np.float32:
                value = value.astype(np.float16)
            self.initialisers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def integers(self, *values: int) -> str:
        return self.constant("i_" + "_".join(map(str, values)), np.array(values, dtype=np.int64))

    def tensor(self, name: str, *shape: int | None) -> NDArray[np.float32]:
        tensor = self._weights.get(name)
        if tensor is None:
            raise BadWeights(self._model, name, "is missing")
        fits = len(tensor.shape) == len(shape) and all(
            want in (None, have) for have, want in zip(tensor.shape, shape, strict=True)
        )
        if not fits:
            raise BadWeights(self._model, name, f"has shape {tensor.shape}, expected {shape}")
        return tensor

    def has(self, name: str) -> bool:
        return name in self._weights

    def dense(self, value: str, name: str, width_out: int | None, width_in: int | None) -> str:
        """x·Wᵀ + b."""
        weight = self.tensor(f"{name}.weight", width_out, width_in)
        product = self.op("MatMul", value, self.constant(f"{name}.weight", weight.T))
        return self.op("Add", product, self.constant(f"{name}.bias", self.tensor(f"{name}.bias", weight.shape[0])))

    def layer_norm(self, value: str, name: str, architecture: Architecture) -> str:
        parts = [
            self.constant(f"{name}.{part}", self.tensor(f"{name}.{part}", architecture.hidden))
            for part in ("weight", "bias")
        ]
        return self.op("LayerNormalization", value, *parts, axis=-1, epsilon=architecture.epsilon)


def _embed(writer: _Writer, architecture: Architecture) -> str:
    hidden = architecture.hidden
    words, positions, types = (
        writer.constant(name, writer.tensor(f"embeddings.{name}.weight", None, hidden))
        for name in ("word_embeddings", "position_embeddings", "token_type_embeddings")
    )
    first = writer.integers(architecture.first_position)
    length = writer.op("Shape", "input_ids", start=1, end=2)
    position = writer.op("Slice", positions, first, writer.op("Add", first, length), writer.integers(0))
    embedded = writer.op("Add", writer.op("Gather", words, "input_ids"), writer.op("Gather", types, "token_type_ids"))
    return writer.layer_norm(writer.op("Add", embedded, position), "embeddings.LayerNorm", architecture)


def _lengths(writer: _Writer) -> str:
    """i32[B], tokens of each text: the one form of mask that fused attention on a GPU takes."""
    counted = writer.op("ReduceSum", "attention_mask", writer.integers(1), keepdims=0)
    return writer.op("Cast", counted, to=TensorProto.INT32)


def _layer(writer: _Writer, architecture: Architecture, hidden: str, layer: str, lengths: str | None) -> str:
    attended = _attention(writer, architecture, hidden, f"{layer}.attention.self", lengths)
    width = architecture.hidden
    projected = writer.dense(attended, f"{layer}.attention.output.dense", width, width)
    hidden = writer.layer_norm(writer.op("Add", projected, hidden), f"{layer}.attention.output.LayerNorm", architecture)
    inner = writer.dense(hidden, f"{layer}.intermediate.dense", None, width)
    inner = writer.op("Gelu", inner, approximate=architecture.gelu)
    outer = writer.dense(inner, f"{layer}.output.dense", width, None)
    return writer.layer_norm(writer.op("Add", outer, hidden), f"{layer}.output.LayerNorm", architecture)


def _attention(writer: _Writer, architecture: Architecture, hidden: str, name: str, lengths: str | None) -> str:
    """Softmax(Q·Kᵀ/√d)·V per head."""
    width = architecture.hidden
    parts = [writer.dense(hidden, f"{name}.{part}", width, width) for part in ("query", "key", "value")]
    no_bias = ""
    mask = [no_bias, lengths] if lengths else []
    return writer.op("MultiHeadAttention", *parts, *mask, domain=_ORT_DOMAIN, num_heads=architecture.heads)


def _classify(writer: _Writer, hidden: str, width: int) -> str:
    """The first token's embedding to one logit: BERT's pooler and classifier, or RoBERTa's classification head."""
    first = writer.op("Squeeze", writer.op("Slice", hidden, *map(writer.integers, (0, 1, 1))), writer.integers(1))
    roberta = writer.has("classifier.out_proj.weight")
    dense, out = ("classifier.dense", "classifier.out_proj") if roberta else ("pooler.dense", "classifier")
    pooled = writer.op("Tanh", writer.dense(first, dense, width, width))
    return writer.name(writer.dense(pooled, out, 1, width), "logits")
