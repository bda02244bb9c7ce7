"""ONNX Runtime sessions: one text a run on a CPU, padded batches on a GPU; and how many cores this process really has."""

import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from gannet_inference.batch import Batcher, calibrated_budget, pad
from gannet_inference.errors import DeviceUnavailable, ModelFailure, UnsupportedModel
from gannet_inference.tokens import TokenIds

CPU_PROVIDER = "CPUExecutionProvider"
CUDA_PROVIDER = "CUDAExecutionProvider"
# The outputs that Gannet reads, ours first, then those of common ONNX exports.
OUTPUTS = ("last_hidden_state", "token_embeddings", "logits")
_CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_LOG_ERRORS_ONLY = 3
# Calibration: rows of a usual length, each batch run once to warm up and so often to measure.
_CALIBRATION_TOKENS = 128
_CALIBRATION_RUNS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU, and the most tokens of one batch on it, padding included."""

    index: int
    batch_tokens_max: int


class Session(Protocol):
    """A loaded graph that several threads may run at once."""

    @property
    def execution_provider(self) -> str:
        """Where the graph runs, ONNX Runtime's name."""
        ...

    def run(self, tokens: TokenIds) -> NDArray[np.float32]:
        """Runs one text, without the GIL.

        Returns:
            f32[T, D] token embeddings, or f32[L] logits.

        Raises:
            ModelFailure: the model failed on this text.
        """
        ...


def open_session(model_file: Path, *, model: str, threads: int, tokens_max: int, gpu: Gpu | None) -> Session:
    """Loads a graph for the device; this holds the GIL, so it belongs before serving.

    Raises:
        UnsupportedModel: ONNX Runtime refuses the file, or it lacks an input or output that Gannet needs.
        DeviceUnavailable: the GPU cannot be used.
        ModelFailure: the model fails on the smallest batch.
    """
    if gpu is None:
        return ModelSession(model_file, model=model, threads=threads)
    session = BatchSession(
        model_file, model=model, tokens_max=tokens_max, batch_tokens_max=gpu.batch_tokens_max, gpu_index=gpu.index
    )
    session.calibrate()
    return session


class ModelSession:
    """One text a run, each run on `threads` cores: nothing is padded, and no text has neighbours.

    Two threads on one session read 1.83 times the tokens of one thread, the same as on two sessions with twice the
    memory. The memory that runs leave behind is bounded by the longest text: 22 MiB a thread after 512 tokens.
    """

    def __init__(self, model_file: Path, *, model: str, threads: int) -> None:
        """Loads the graph; errors as `open_session`."""
        options = _options(threads)
        # The fused operator takes 19 % of an int8 run, an Add and a LayerNormalization 5 % (docs/adr/0011).
        options.add_session_config_entry("optimization.disable_specified_optimizers", "SkipLayerNormFusion")
        self._model = model
        self._session = _load(model_file, model, options, CPU_PROVIDER, {})
        self._inputs = {entry.name for entry in self._session.get_inputs()}
        self._output = _output(self._session, model, model_file)

    @property
    def execution_provider(self) -> str:
        """Where the graph runs, ONNX Runtime's name."""
        return self._session.get_providers()[0]

    def run(self, tokens: TokenIds) -> NDArray[np.float32]:
        """Runs one text; result and errors as `Session.run`."""
        feeds = {"input_ids": tokens.ids[None, :]}
        if "token_type_ids" in self._inputs:
            feeds["token_type_ids"] = tokens.type_ids[None, :]
        if "attention_mask" in self._inputs:
            feeds["attention_mask"] = np.ones((1, tokens.count), dtype=np.int64)
        try:
            output: NDArray[np.float32] = self._session.run([self._output], feeds)[0]
        except Exception as error:  # ONNX Runtime has no public base class for its errors
            raise ModelFailure(self._model, "run", str(error)) from error
        return output[0]


class BatchSession:
    """Padded batches of the texts that wait; for float graphs that read an attention mask."""

    def __init__(
        self, model_file: Path, *, model: str, tokens_max: int, batch_tokens_max: int, gpu_index: int | None
    ) -> None:
        """Loads the graph; errors as `open_session`.

        Args:
            model_file: the graph.
            model: whose errors these are.
            tokens_max: the longest text.
            batch_tokens_max: most tokens of a batch, padding included.
            gpu_index: which GPU; None for the CPU.
        """
        options: dict[str, str] = {}
        if gpu_index is not None:
            # Grown by what is asked for, not by doubling: other processes may share the GPU's memory.
            options = {"device_id": str(gpu_index), "arena_extend_strategy": "kSameAsRequested"}
        self._device = ("cpu", 0) if gpu_index is None else ("cuda", gpu_index)
        self._model = model
        self._tokens_max = tokens_max
        provider = CPU_PROVIDER if gpu_index is None else CUDA_PROVIDER
        self._session = _load(model_file, model, _options(1), provider, options)
        self._inputs = {entry.name for entry in self._session.get_inputs()}
        if "attention_mask" not in self._inputs:
            raise UnsupportedModel(
                model, "precision", "this graph reads no attention mask, which batches need; use fp16"
            )
        self._output = _output(self._session, model, model_file)
        self._batch_tokens_max = batch_tokens_max
        self._batcher = Batcher(self.run_batch, model=model, budget_tokens=batch_tokens_max)

    @property
    def execution_provider(self) -> str:
        """Where the graph runs, ONNX Runtime's name."""
        return self._session.get_providers()[0]

    @property
    def budget_tokens(self) -> int:
        """Most tokens of a batch, padding included."""
        return self._batcher.budget_tokens

    def run(self, tokens: TokenIds) -> NDArray[np.float32]:
        """Runs one text together with those of other callers; result and errors as `Session.run`."""
        return self._batcher.run(tokens)

    def run_batch(self, texts: Sequence[TokenIds]) -> list[NDArray[np.float32]]:
        """Runs texts together, in order; each result as `Session.run` gives it.

        Raises:
            ModelFailure: the model failed on the batch.
        """
        binding = self._session.io_binding()
        try:
            for name, value in pad(texts, self._tokens_max).items():
                if name in self._inputs:
                    on_device: Any = onnxruntime.OrtValue.ortvalue_from_numpy(value, *self._device)
                    binding.bind_ortvalue_input(name, on_device)
            binding.bind_output(self._output, "cpu")
            self._session.run_with_iobinding(binding)
            output: NDArray[np.float32] = binding.copy_outputs_to_cpu()[0]
        except Exception as error:  # ONNX Runtime has no public base class for its errors
            raise ModelFailure(self._model, "run", str(error)) from error
        if output.ndim == 3:
            return [row[: text.count] for row, text in zip(output, texts, strict=True)]
        return list(output)

    def calibrate(self) -> None:
        """Lowers the budget to where larger batches are no faster; before serving.

        Raises:
            ModelFailure: not even the smallest batch runs.
        """
        self._batcher.budget_tokens = calibrated_budget(self._batch_s, budget_max=self._batch_tokens_max)

    def _batch_s(self, budget_tokens: int) -> float:
        length = min(_CALIBRATION_TOKENS, budget_tokens, self._tokens_max)
        zeros = np.zeros(length, dtype=np.int64)
        texts = [TokenIds(ids=zeros, type_ids=zeros, truncated=False)] * (budget_tokens // length)
        self.run_batch(texts)
        runs_s: list[float] = []
        for _ in range(_CALIBRATION_RUNS):
            started = time.perf_counter()
            self.run_batch(texts)
            runs_s.append(time.perf_counter() - started)
        return statistics.median(runs_s)


def _options(threads: int) -> Any:
    options: Any = onnxruntime.SessionOptions()
    # Set always: ONNX Runtime would size its pool from the host rather than from the cgroup.
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning burns cores that other sessions and the event loop need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Patterns are kept per input shape, and texts come in every length.
    options.enable_mem_pattern = False
    options.log_severity_level = _LOG_ERRORS_ONLY
    return options


def _load(model_file: Path, model: str, options: Any, provider: str, provider_options: Mapping[str, str]) -> Any:
    try:
        session: Any = onnxruntime.InferenceSession(
            str(model_file), sess_options=options, providers=[(provider, dict(provider_options))]
        )
    except Exception as error:  # ONNX Runtime has no public base class for its errors
        raise UnsupportedModel(model, model_file.name, f"ONNX Runtime refuses it: {error}") from error
    in_use = session.get_providers()[0]
    if in_use != provider:
        # ONNX Runtime goes on with the CPU where the GPU's libraries or the GPU itself are missing.
        raise DeviceUnavailable(
            f"{provider} was asked for, ONNX Runtime fell back to {in_use}: look for its error above"
        )
    return session


def _output(session: Any, model: str, model_file: Path) -> str:
    names = [entry.name for entry in session.get_outputs()]
    known = [name for name in OUTPUTS if name in names]
    if not known:
        raise UnsupportedModel(model, model_file.name, f"has outputs {names}, needs one of {list(OUTPUTS)}")
    return known[0]


def cores_available() -> int:
    """Cores this process may use: the smaller of its affinity and its cgroup's quota, at least 1."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = _CGROUP_QUOTA.read_text().split()
    except (OSError, ValueError):
        return cores
    if quota == "max":
        return cores
    return max(1, min(cores, int(quota) // int(period)))
