"""An ONNX Runtime session with bounded threads, and how many cores this process really has."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from gannet_inference.errors import ModelFailure, UnsupportedModel
from gannet_inference.tokens import TokenIds

# The outputs that Gannet reads, ours first, then those of common ONNX exports.
OUTPUTS = ("last_hidden_state", "token_embeddings", "logits")
_CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_LOG_ERRORS_ONLY = 3


class ModelSession:
    """One loaded graph, which several threads may run at once, each run on `threads` cores.

    Two threads on one session read 1.83 times the tokens of one thread, the same as on two sessions with twice the
    memory.
    """

    def __init__(self, model_file: Path, *, model: str, threads: int) -> None:
        """Loads the graph; this holds the GIL, so it belongs before serving.

        Raises:
            UnsupportedModel: ONNX Runtime refuses the file, or it has none of the outputs that Gannet reads.
        """
        options: Any = onnxruntime.SessionOptions()
        # Set always: ONNX Runtime would size its pool from the host rather than from the cgroup.
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Spinning burns cores that other sessions and the event loop need.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # The fused operator takes 20 % of an int8 run, an Add and a LayerNormalization 5 % (docs/adr/0011).
        options.add_session_config_entry("optimization.disable_specified_optimizers", "SkipLayerNormFusion")
        # Patterns are kept per input shape, and texts come in every length.
        options.enable_mem_pattern = False
        options.log_severity_level = _LOG_ERRORS_ONLY
        self._model = model
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(model_file), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime has no public base class for its errors
            raise UnsupportedModel(model, model_file.name, f"ONNX Runtime refuses it: {error}") from error
        self._inputs = {entry.name for entry in self._session.get_inputs()}
        names = [entry.name for entry in self._session.get_outputs()]
        known = [name for name in OUTPUTS if name in names]
        if not known:
            raise UnsupportedModel(model, model_file.name, f"has outputs {names}, needs one of {list(OUTPUTS)}")
        self._output = known[:1]

    @property
    def execution_provider(self) -> str:
        """Where the graph runs, ONNX Runtime's name."""
        return self._session.get_providers()[0]

    def run(self, tokens: TokenIds) -> NDArray[np.float32]:
        """Runs one sequence, without the GIL.

        Returns:
            f32[T, D] token embeddings, or f32[L] logits.

        Raises:
            ModelFailure: ONNX Runtime failed.
        """
        feeds = {"input_ids": tokens.ids[None, :]}
        if "token_type_ids" in self._inputs:
            feeds["token_type_ids"] = tokens.type_ids[None, :]
        if "attention_mask" in self._inputs:
            feeds["attention_mask"] = np.ones((1, tokens.count), dtype=np.int64)
        try:
            output: NDArray[np.float32] = self._session.run(self._output, feeds)[0]
        except Exception as error:  # ONNX Runtime has no public base class for its errors
            raise ModelFailure(self._model, "run", str(error)) from error
        return output[0]


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
