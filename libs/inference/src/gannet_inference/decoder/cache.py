"""Keys and values of every slot, allocated once: `slots` texts of `positions` tokens.

Pages of the host's memory are taken when they are first written to, so a long slot that only short texts use costs little.
"""

from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import helper

from gannet_inference.decoder.layout import GraphLayout

Block = NDArray[Any]


class KvCache(Protocol):
    """Memory that a graph reads its past from and writes its present to."""

    slots: int
    positions: int

    def address(self, part: int, slot: int) -> int:
        """Where a slot's keys (even parts) or values (odd parts) begin; slots lie one after the other."""
        ...

    def move(self, source: int, target: int, length: int) -> None:
        """Copies the first positions of one slot to another."""
        ...


class HostCache:
    """In the host's memory, as one array [parts, slots, heads, positions, head]."""

    def __init__(self, layout: GraphLayout, slots: int, positions: int) -> None:
        """Reserves the memory."""
        self.slots = slots
        self.positions = positions
        # Zeros, not leftovers: Optimum's graphs multiply masked positions by 0, and 0·NaN is NaN.
        self.array: Block = np.zeros(
            (len(layout.past), slots, layout.heads, positions, layout.head), dtype=layout.cache_type
        )
        self._base = self.array.ctypes.data

    def address(self, part: int, slot: int) -> int:
        """See `KvCache`."""
        return self._base + part * self.array.strides[0] + slot * self.array.strides[1]

    def move(self, source: int, target: int, length: int) -> None:
        """See `KvCache`."""
        self.array[:, target, :, :length] = self.array[:, source, :, :length]

    def copy_out(self, slot: int, start: int, end: int) -> Block:
        """A copy of some positions, [parts, heads, end - start, head]."""
        return self.array[:, slot, :, start:end].copy()

    def copy_in(self, slot: int, start: int, block: Block) -> None:
        """Writes what `copy_out` gave to the positions from `start` on."""
        self.array[:, slot, :, start : start + block.shape[2]] = block


class DeviceCache:
    """In a GPU's memory. A slot is moved whole, by a graph that copies: ONNX Runtime has no other copy from Python."""

    def __init__(
        self, layout: GraphLayout, slots: int, positions: int, *, device: tuple[str, int], provider: Any
    ) -> None:
        """Reserves the memory.

        Args:
            layout: the graph's.
            slots: texts.
            positions: tokens of each.
            device: ONNX Runtime's name of the device, and which one.
            provider: the execution provider that copies there, with its options.
        """
        self.slots = slots
        self.positions = positions
        self._device = device
        self._type = layout.cache_type
        self._parts = len(layout.past)
        self._row = [1, layout.heads, positions, layout.head]
        self._row_bytes = layout.heads * positions * layout.head * np.dtype(layout.cache_type).itemsize
        shape = [self._parts, slots, layout.heads, positions, layout.head]
        self._memory: Any = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, layout.cache_type, *device)
        self._copier: Any = onnxruntime.InferenceSession(
            _copy_graph(self._row, layout.cache_type), providers=[provider]
        )

    def address(self, part: int, slot: int) -> int:
        """See `KvCache`."""
        return self._memory.data_ptr() + (part * self.slots + slot) * self._row_bytes

    def move(self, source: int, target: int, length: int) -> None:
        """See `KvCache`."""
        del length  # of a row's positions only whole rows lie together
        for part in range(self._parts):
            binding: Any = self._copier.io_binding()
            binding.bind_input("from", *self._device, self._type, self._row, self.address(part, source))
            binding.bind_output("to", *self._device, self._type, self._row, self.address(part, target))
            self._copier.run_with_iobinding(binding)


def _copy_graph(shape: list[int], dtype: Any) -> bytes:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    ends = [helper.make_tensor_value_info(name, kind, shape) for name in ("from", "to")]
    graph = helper.make_graph([helper.make_node("Identity", ["from"], ["to"])], "copy", ends[:1], ends[1:])
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    return model.SerializeToString()
