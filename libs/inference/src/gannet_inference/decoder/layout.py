"""What a decoder graph reads and writes, found in the graph itself: onnxruntime-genai's layout or Optimum's."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import DTypeLike

from gannet_inference.errors import UnsupportedModel

_PAST = re.compile(r"^past_key_values\.(\d+)\.(key|value)$")
_PRESENT = re.compile(r"^present\.(\d+)\.(key|value)$")
_TYPES: dict[str, DTypeLike] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}
# What a graph may read besides its past.
SMALL_INPUTS = ("input_ids", "attention_mask", "position_ids", "seqlens_k", "total_sequence_length")
_LOGITS = "logits"


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphLayout:
    """How a decoder graph is fed.

    Attributes:
        shared: it holds GroupQueryAttention, which takes one buffer as past and present and a length per row; else it is
            Optimum's layout, which returns the past grown by Concat.
        heads: key and value heads.
        head: components of one.
        past: inputs, key and value of the first layer, of the second and so on.
        present: outputs in the same order.
        cache_type: of past and present.
        small: the other inputs with their type and rank.
        logits_type: float32 or float16.
        vocabulary: logits a token.
        last_only: the graph gives the logits of the last position alone.
    """

    shared: bool
    heads: int
    head: int
    past: tuple[str, ...]
    present: tuple[str, ...]
    cache_type: DTypeLike
    small: Mapping[str, tuple[DTypeLike, int]]
    logits_type: DTypeLike
    vocabulary: int
    last_only: bool

    def cache_bytes(self, positions: int) -> int:
        """Memory of one text's keys and values."""
        return len(self.past) * self.heads * positions * self.head * np.dtype(self.cache_type).itemsize


def read_layout(session: Any, proto: onnx.ModelProto, model_file: Path, *, model: str) -> GraphLayout:
    """Finds the layout of a graph, from its session and from the file it was read from.

    Raises:
        UnsupportedModel: it is no decoder of either layout; the message names the input or output at fault.
    """
    inputs = {entry.name: entry for entry in session.get_inputs()}
    outputs = {entry.name: entry for entry in session.get_outputs()}
    past = _by_layer(inputs, _PAST)
    present = _by_layer(outputs, _PRESENT)
    if not past or len(past) != len(present):
        raise UnsupportedModel(
            model, model_file.name, f"has {len(past)} past_key_values inputs and {len(present)} present outputs"
        )
    small = {name: entry for name, entry in inputs.items() if name not in past}
    unknown = sorted(small.keys() - set(SMALL_INPUTS))
    if unknown or "input_ids" not in small or _LOGITS not in outputs:
        raise UnsupportedModel(
            model,
            model_file.name,
            f"reads {sorted(small)} and writes {sorted(outputs)[:3]}; {unknown} is not known here",
        )
    _, heads, _, head = inputs[past[0]].shape
    *_, positions, vocabulary = outputs[_LOGITS].shape
    if not all(isinstance(size, int) for size in (heads, head, vocabulary)):
        raise UnsupportedModel(
            model, past[0], f"needs fixed heads, head size and vocabulary, has {heads}, {head}, {vocabulary}"
        )
    return GraphLayout(
        shared=_holds_grouped_attention(proto),
        heads=heads,
        head=head,
        past=past,
        present=present,
        cache_type=_type(inputs[past[0]], model),
        small={name: (_type(entry, model), len(entry.shape)) for name, entry in small.items()},
        logits_type=_type(outputs[_LOGITS], model),
        vocabulary=vocabulary,
        last_only=positions == 1,
    )


def _by_layer(entries: Mapping[str, Any], pattern: re.Pattern[str]) -> tuple[str, ...]:
    found = [(int(match[1]), match[2], name) for name in entries if (match := pattern.match(name))]
    return tuple(name for _, _, name in sorted(found))


def _type(entry: Any, model: str) -> DTypeLike:
    if entry.type not in _TYPES:
        raise UnsupportedModel(model, entry.name, f"is a {entry.type}; there are {', '.join(_TYPES)}")
    return _TYPES[entry.type]


def read_proto(model_file: Path, *, model: str) -> onnx.ModelProto:
    """The graph without what it keeps in a second file, which may be gigabytes of weights.

    Raises:
        UnsupportedModel: it is none.
    """
    try:
        return onnx.load(model_file, load_external_data=False)
    except Exception as error:  # protobuf's decoding errors have no public base class
        raise UnsupportedModel(model, model_file.name, f"is no ONNX model: {error}") from error


def _holds_grouped_attention(proto: onnx.ModelProto) -> bool:
    nodes = [*proto.graph.node, *(node for function in proto.functions for node in function.node)]
    return any(node.op_type == "GroupQueryAttention" for node in nodes)
