"""Decoder graphs in the layouts that exporters write, from the weights of `reference.decoder`, for tests and benchmarks.

`genai`: GroupQueryAttention with rotation inside; sequence lengths derived from the attention mask, as onnxruntime-genai's builder has it.
`positions`: the same with position_ids and rotation outside. `seqlens`: the same with the lengths as inputs.
`optimum`: plain operators, the past grown by Concat.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from reference.decoder import Shape, Weights, rotary_tables

Layout = Literal["genai", "positions", "seqlens", "optimum"]
BLOCK = 32


@dataclass(slots=True)
class _Graph:
    shape: Shape
    layout: Layout
    bits: int
    accuracy: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: dict[str, onnx.TensorProto] = field(default_factory=dict)

    @property
    def float_type(self) -> type[np.floating[Any]]:
        return np.float16 if self.bits == 16 else np.float32

    def const(self, name: str, value: np.ndarray) -> str:
        if name not in self.tensors:
            self.tensors[name] = numpy_helper.from_array(value, name)
        return name

    def floats(self, name: str, value: np.ndarray) -> str:
        return self.const(name, value.astype(self.float_type))

    def ints(self, *values: int) -> str:
        return self.const("i_" + "_".join(map(str, values)), np.array(values, dtype=np.int64))

    def op(self, kind: str, inputs: list[str], *, outputs: int = 1, domain: str = "", **attributes: Any) -> str:
        name = f"{kind}_{len(self.nodes)}"
        names = [name, *(f"{name}_{number}" for number in range(1, outputs))]
        self.nodes.append(helper.make_node(kind, inputs, names, domain=domain, **attributes))
        return name

    def linear(self, name: str, hidden: str, weights: Weights) -> str:
        weight = weights[name]
        if self.bits in {4, 8}:
            packed, scales = quantised(weight, self.bits)
            product = self.op(
                "MatMulNBits",
                [hidden, self.const(f"{name}_packed", packed), self.const(f"{name}_scales", scales)],
                domain="com.microsoft",
                K=weight.shape[0],
                N=weight.shape[1],
                bits=self.bits,
                block_size=BLOCK,
                accuracy_level=self.accuracy,
            )
        else:
            product = self.op("MatMul", [hidden, self.floats(name, weight)])
        bias = weights.get(f"{name}.bias")
        return product if bias is None else self.op("Add", [product, self.floats(f"{name}.bias", bias)])

    def norm(self, name: str, hidden: str, weights: Weights) -> str:
        scale = self.floats(name, weights[name])
        if self.shape.phi:
            bias = self.floats(f"{name}.bias", weights[f"{name}.bias"])
            return self.op("LayerNormalization", [hidden, scale, bias], axis=-1, epsilon=self.shape.epsilon)
        return self.op(
            "SimplifiedLayerNormalization", [hidden, scale], axis=-1, epsilon=self.shape.epsilon, stash_type=1
        )


def quantised(weight: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """MatMulNBits' form of a weight [K, N]: u8[N, K/32, 4·bits] and scales f32[N·K/32]; K is a multiple of 32."""
    steps, scales = _steps(weight, bits)
    if bits == 4:
        steps = steps[:, :, 0::2] | (steps[:, :, 1::2] << 4)
    return steps, scales.ravel()


def dequantised(weights: Weights, bits: int) -> Weights:
    """The weights as a graph of so many bits has them, for the reference to compute with."""
    exact = {"embedding", "norm"}
    restored = dict(weights)
    for name, weight in weights.items():
        if weight.ndim == 2 and name not in exact and bits in {4, 8}:
            steps, scales = _steps(weight, bits)
            blocks = (steps.astype(np.float32) - (1 << bits - 1)) * scales[:, :, None]
            restored[name] = blocks.reshape(weight.shape[1], weight.shape[0]).T
        elif bits == 16:
            restored[name] = weight.astype(np.float16).astype(np.float32)
    return restored


def _steps(weight: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    half = 1 << bits - 1
    blocks = weight.T.reshape(weight.shape[1], -1, BLOCK)
    scales = np.abs(blocks).max(axis=2) / (half - 1)
    return (np.round(blocks / scales[:, :, None]) + half).astype(np.uint8), scales.astype(np.float32)


def build(
    shape: Shape, weights: Weights, *, layout: Layout = "genai", bits: int = 32, accuracy: int = 0
) -> onnx.ModelProto:
    """A causal language model.

    Args:
        shape: its dimensions.
        weights: of `random_weights`.
        layout: see above.
        bits: 32 and 16 are floats, 8 and 4 MatMulNBits.
        accuracy: MatMulNBits' accuracy_level; 4 quantises activations too.
    """
    graph = _Graph(shape, layout, bits, accuracy)
    lengths = _lengths(graph)
    hidden = graph.op("Gather", [graph.floats("embedding", weights["embedding"]), "input_ids"])
    for layer in range(shape.layers):
        normed = graph.norm(f"{layer}.norm_1", hidden, weights)
        parts = [graph.linear(f"{layer}.{name}", normed, weights) for name in ("query", "key", "value")]
        mixed = _plain_attention(graph, layer, parts) if layout == "optimum" else _fused(graph, layer, parts, lengths)
        hidden = graph.op("Add", [hidden, graph.linear(f"{layer}.output", mixed, weights)])
        if shape.phi:
            inner = graph.op("Gelu", [graph.linear(f"{layer}.up", normed, weights)], approximate="tanh")
            hidden = graph.op("Add", [hidden, graph.linear(f"{layer}.down", inner, weights)])
            continue
        normed = graph.norm(f"{layer}.norm_2", hidden, weights)
        gate = graph.linear(f"{layer}.gate", normed, weights)
        gate = graph.op("Mul", [gate, graph.op("Sigmoid", [gate])])
        inner = graph.op("Mul", [gate, graph.linear(f"{layer}.up", normed, weights)])
        hidden = graph.op("Add", [hidden, graph.linear(f"{layer}.down", inner, weights)])
    head = graph.linear("head", graph.norm("norm", hidden, weights), weights)
    graph.nodes.append(helper.make_node("Identity", [head], ["logits"]))
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    proto = helper.make_graph(graph.nodes, "decoder", *_interface(graph), list(graph.tensors.values()))
    return helper.make_model(proto, ir_version=10, opset_imports=opsets)


def _interface(graph: _Graph) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
    shape, whole = graph.shape, TensorProto.INT64
    floats = TensorProto.FLOAT16 if graph.bits == 16 else TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info("input_ids", whole, ["batch", "sequence"])]
    if graph.layout == "seqlens":
        inputs.append(helper.make_tensor_value_info("seqlens_k", TensorProto.INT32, ["batch"]))
        inputs.append(helper.make_tensor_value_info("total_sequence_length", TensorProto.INT32, []))
    else:
        inputs.append(helper.make_tensor_value_info("attention_mask", whole, ["batch", "total"]))
    if graph.layout in {"positions", "optimum"}:
        inputs.append(helper.make_tensor_value_info("position_ids", whole, ["batch", "sequence"]))
    outputs = [helper.make_tensor_value_info("logits", floats, ["batch", "sequence", shape.vocabulary])]
    for layer in range(shape.layers):
        for part in ("key", "value"):
            for name, length, into in (("past_key_values", "past", inputs), ("present", "total", outputs)):
                dims = ["batch", shape.kv_heads, length, shape.head]
                into.append(helper.make_tensor_value_info(f"{name}.{layer}.{part}", floats, dims))
    return inputs, outputs


def _lengths(graph: _Graph) -> list[str]:
    """seqlens_k and total_sequence_length."""
    if graph.layout == "seqlens":
        return ["seqlens_k", "total_sequence_length"]
    if graph.layout == "optimum":
        return []
    sums = graph.op("ReduceSum", ["attention_mask", graph.ints(1)], keepdims=0)
    last = graph.op("Sub", [sums, graph.ints(1)])
    width = graph.op(
        "Gather", [graph.op("Shape", ["attention_mask"]), graph.const("i_one", np.array(1, dtype=np.int64))]
    )
    return [graph.op("Cast", [name], to=TensorProto.INT32) for name in (last, width)]


def _tables(graph: _Graph) -> list[str]:
    return [graph.floats(name, table) for name, table in zip(("cos", "sin"), rotary_tables(graph.shape), strict=True)]


def _fused(graph: _Graph, layer: int, parts: list[str], lengths: list[str]) -> str:
    shape, inside = graph.shape, graph.layout != "positions"
    query, key, value = parts
    if not inside:
        query, key = (
            graph.op(
                "RotaryEmbedding",
                [part, "position_ids", *_tables(graph)],
                domain="com.microsoft",
                num_heads=heads,
                rotary_embedding_dim=shape.rotated if shape.phi else 0,
            )
            for part, heads in ((query, shape.heads), (key, shape.kv_heads))
        )
    past = [f"past_key_values.{layer}.{part}" for part in ("key", "value")]
    name = f"attention_{layer}"
    node = helper.make_node(
        "GroupQueryAttention",
        [query, key, value, *past, *lengths, *(_tables(graph) if inside else [])],
        [name, f"present.{layer}.key", f"present.{layer}.value"],
        domain="com.microsoft",
        num_heads=shape.heads,
        kv_num_heads=shape.kv_heads,
        do_rotary=int(inside),
    )
    graph.nodes.append(node)
    return name


def _plain_attention(graph: _Graph, layer: int, parts: list[str]) -> str:
    shape = graph.shape
    split = [
        graph.op("Transpose", [graph.op("Reshape", [part, graph.ints(0, 0, heads, shape.head)])], perm=[0, 2, 1, 3])
        for part, heads in zip(parts, (shape.heads, shape.kv_heads, shape.kv_heads), strict=True)
    ]
    query, key = (_rotated(graph, states) for states in split[:2])
    for part, states in (("key", key), ("value", split[2])):
        names = [f"past_key_values.{layer}.{part}", states]
        graph.nodes.append(helper.make_node("Concat", names, [f"present.{layer}.{part}"], axis=2))
    group = shape.heads // shape.kv_heads
    keys, values = (_repeated(graph, f"present.{layer}.{part}", group) for part in ("key", "value"))
    scores = graph.op("MatMul", [query, graph.op("Transpose", [keys], perm=[0, 1, 3, 2])])
    scores = graph.op("Div", [scores, graph.floats("root", np.array(np.sqrt(shape.head)))])
    shares = graph.op("Softmax", [graph.op("Add", [scores, _mask(graph, f"past_key_values.{layer}.key")])], axis=-1)
    mixed = graph.op("Transpose", [graph.op("MatMul", [shares, values])], perm=[0, 2, 1, 3])
    return graph.op("Reshape", [mixed, graph.ints(0, 0, shape.hidden)])


def _rotated(graph: _Graph, states: str) -> str:
    cos, sin = (
        graph.op("Unsqueeze", [graph.op("Gather", [table, "position_ids"]), graph.ints(1)]) for table in _tables(graph)
    )
    half = graph.shape.rotated // 2
    first = graph.op("Slice", [states, graph.ints(0), graph.ints(half), graph.ints(3)])
    second = graph.op("Slice", [states, graph.ints(half), graph.ints(2 * half), graph.ints(3)])
    left = graph.op("Sub", [graph.op("Mul", [first, cos]), graph.op("Mul", [second, sin])])
    right = graph.op("Add", [graph.op("Mul", [second, cos]), graph.op("Mul", [first, sin])])
    rest = graph.op("Slice", [states, graph.ints(2 * half), graph.ints(graph.shape.head), graph.ints(3)])
    return graph.op("Concat", [left, right, rest], axis=3)


def _repeated(graph: _Graph, states: str, group: int) -> str:
    shape = graph.shape
    wide = graph.op("Concat", [graph.op("Unsqueeze", [states, graph.ints(2)])] * group, axis=2)
    return graph.op("Reshape", [wide, graph.ints(0, shape.heads, -1, shape.head)])


def _mask(graph: _Graph, past: str) -> str:
    """0 where a token may look, else the least float: at nothing behind itself, and at nothing that the attention mask leaves out."""
    rows = graph.op("Gather", [graph.op("Shape", ["input_ids"]), graph.ints(1)])
    before = graph.op("Gather", [graph.op("Shape", [past]), graph.ints(2)])
    columns = graph.op("Add", [rows, before])
    zero, one = (graph.const(f"i_scalar_{value}", np.array(value, dtype=np.int64)) for value in (0, 1))
    scalars = [graph.op("Squeeze", [value]) for value in (rows, columns, before)]
    row = graph.op("Add", [graph.op("Range", [zero, scalars[0], one]), scalars[2]])
    later = graph.op(
        "Greater", [graph.op("Range", [zero, scalars[1], one]), graph.op("Unsqueeze", [row, graph.ints(1)])]
    )
    absent = graph.op("Equal", ["attention_mask", zero])
    absent = graph.op("Unsqueeze", [absent, graph.ints(1, 2)])
    hidden = graph.op("Or", [graph.op("Unsqueeze", [later, graph.ints(0, 1)]), absent])
    least = np.array(np.finfo(graph.float_type).min)
    return graph.op("Where", [hidden, graph.floats("least", least), graph.floats("nothing", np.array(0.0))])
