"""Runs of a decoder graph over slots: some tokens of one slot, or one token of each of the first slots."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gannet_inference.decoder.cache import HostCache, KvCache
from gannet_inference.decoder.layout import GraphLayout
from gannet_inference.errors import ModelFailure

Logits = NDArray[np.float32]
Ints = NDArray[np.int64]


class Runner(Protocol):
    """A graph with the memory of its slots."""

    def run(self, first: int, ids: Ints, past: Ints) -> Logits:
        """Runs tokens behind what their slots hold, without the GIL.

        Args:
            first: the first slot; row r is slot `first + r`.
            ids: i64[R, W]; R is 1 or W is 1.
            past: i64[R], positions that each slot holds already.

        Returns:
            f32[R, V], behind each row's last token; valid until the next run, and the caller may write to it.

        Raises:
            ModelFailure: the model failed.
        """
        ...


class SharedRunner:
    """GroupQueryAttention: past and present are one buffer, bound once for every run over the same slots."""

    def __init__(
        self, session: Any, layout: GraphLayout, cache: KvCache, *, model: str, width_max: int, device: tuple[str, int]
    ) -> None:
        """Takes over a session.

        Args:
            session: of the graph.
            layout: of the graph.
            cache: its slots.
            model: whose errors these are.
            width_max: most tokens of one slot in a run.
            device: where the cache is.
        """
        self._session = session
        self._layout = layout
        self._cache = cache
        self._model = model
        self._device = device
        positions = 1 if layout.last_only else width_max
        self._logits = np.empty(max(cache.slots, positions) * layout.vocabulary, dtype=layout.logits_type)
        self._bindings: dict[tuple[int, int], Any] = {}
        self._bound: dict[tuple[int, int], tuple[int, int, int]] = {}

    def run(self, first: int, ids: Ints, past: Ints) -> Logits:
        """See `Runner`."""
        rows, width = ids.shape
        binding = self._bindings.get((first, rows)) or self._bind(first, rows)
        feeds = _feeds(self._layout, ids, past, int(past.max()) + width)
        shape = (rows, 1 if self._layout.last_only else width, self._layout.vocabulary)
        try:
            for name, value in feeds.items():
                # Not `.ctypes`: it makes an object of 1 µs for the same number.
                binding.bind_input(name, "cpu", 0, value.dtype, value.shape, value.__array_interface__["data"][0])
            if self._bound.get((first, rows)) != shape:
                binding.bind_output("logits", "cpu", 0, self._logits.dtype, shape, self._logits.ctypes.data)
                self._bound[first, rows] = shape
            self._session.run_with_iobinding(binding)
        except Exception as error:  # ONNX Runtime has no public base class for its errors
            raise ModelFailure(self._model, "run", str(error)) from error
        logits = self._logits[: shape[0] * shape[1] * shape[2]].reshape(shape)[:, -1]
        return logits.astype(np.float32, copy=False)

    def _bind(self, first: int, rows: int) -> Any:
        binding: Any = self._session.io_binding()
        shape = (rows, self._layout.heads, self._cache.positions, self._layout.head)
        for part, (past, present) in enumerate(zip(self._layout.past, self._layout.present, strict=True)):
            where = self._cache.address(part, first)
            binding.bind_input(past, *self._device, self._layout.cache_type, shape, where)
            binding.bind_output(present, *self._device, self._layout.cache_type, shape, where)
        # At most one for each slot that is filled and one for each number of slots that decode together.
        self._bindings[first, rows] = binding
        return binding


class GrownRunner:
    """Optimum's layout: the past is handed in and comes back grown; works with any export, copies all of it every step.

    Rows of different lengths lie left-aligned with masked positions between a row's past and its new token; what a token
    sees is decided by the mask and the position that it was given, not by where in the buffer it lies.
    """

    def __init__(self, session: Any, layout: GraphLayout, cache: HostCache, *, model: str) -> None:
        """Takes over a session, with the cache of its slots."""
        self._session = session
        self._layout = layout
        self._cache = cache
        self._model = model
        self._outputs = ["logits", *layout.present]

    def run(self, first: int, ids: Ints, past: Ints) -> Logits:
        """See `Runner`."""
        rows = ids.shape[0]
        if rows > 1 and "position_ids" not in self._layout.small:
            # Such graphs count positions in the buffer, which rows of different lengths do not share.
            parts = [self.run(first + row, ids[row : row + 1], past[row : row + 1]) for row in range(rows)]
            return np.concatenate(parts)
        held = int(past.max())
        feeds: dict[str, NDArray[Any]] = dict(_feeds(self._layout, ids, past, held + ids.shape[1]))
        for part, name in enumerate(self._layout.past):
            feeds[name] = np.ascontiguousarray(self._cache.array[part, first : first + rows, :, :held])
        try:
            logits, *present = self._session.run(self._outputs, feeds)
        except Exception as error:  # ONNX Runtime has no public base class for its errors
            raise ModelFailure(self._model, "run", str(error)) from error
        for part, grown in enumerate(present):
            for row, length in enumerate(past.tolist()):
                added = grown[row, :, held:]
                self._cache.array[part, first + row, :, length : length + added.shape[1]] = added
        return np.ascontiguousarray(logits[:, -1], dtype=np.float32)


def _feeds(layout: GraphLayout, ids: Ints, past: Ints, total: int) -> Mapping[str, NDArray[Any]]:
    """The small inputs that the graph reads."""
    width = ids.shape[1]
    feeds: dict[str, NDArray[Any]] = {}
    for name, (dtype, rank) in layout.small.items():
        match name:
            case "input_ids":
                value: NDArray[Any] = ids
            case "attention_mask":
                places = np.arange(total)
                # GroupQueryAttention counts the ones of a row; Optimum's new tokens lie behind the longest past.
                seen = (past + width)[:, None] if layout.shared else past[:, None]
                value = places < seen if layout.shared else (places < seen) | (places >= total - width)
            case "position_ids":
                value = past[:, None] + np.arange(width)
            case "seqlens_k":
                value = past + width - 1
            case _:
                value = np.array(total)
        shaped = value if value.ndim == rank else value.reshape((-1,) + (1,) * (rank - 1) if rank else ())
        feeds[name] = np.ascontiguousarray(shaped, dtype=dtype) if rank else np.array(shaped, dtype=dtype)
    return feeds
