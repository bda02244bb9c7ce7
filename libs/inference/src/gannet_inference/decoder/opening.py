"""A decoder from its files: session, memory for its slots, and the runner that fits its graph."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime

from gannet_inference.decoder.cache import DeviceCache, HostCache, KvCache
from gannet_inference.decoder.head import keep_last_position
from gannet_inference.decoder.layout import GraphLayout, read_layout, read_proto
from gannet_inference.decoder.runner import GrownRunner, Runner, SharedRunner
from gannet_inference.errors import DeviceUnavailable, UnsupportedModel
from gannet_inference.session import CPU_PROVIDER, CUDA_PROVIDER

_LOG_ERRORS_ONLY = 3
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotLimits:
    """How much memory the slots take.

    Attributes:
        slots_max: texts that decode at once.
        positions: longest text, prompt and answer together.
        cache_bytes_max: memory of all slots' keys and values; where it is too small for `slots_max`, there are fewer slots.
        prefill_tokens: most tokens of a prompt in one run.
    """

    slots_max: int
    positions: int
    cache_bytes_max: int
    prefill_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedGraph:
    """A graph that is ready to run, and its slots."""

    layout: GraphLayout
    cache: KvCache
    runner: Runner
    execution_provider: str


def load_graph(
    model_file: Path, limits: SlotLimits, *, model: str, threads: int, spin: bool = False, gpu_index: int | None = None
) -> LoadedGraph:
    """Loads a decoder's graph; this holds the GIL, so it belongs before serving.

    Args:
        model_file: the ONNX graph, with its external data beside it.
        limits: of the slots.
        model: whose errors these are.
        threads: cores of a run.
        spin: threads wait for their next piece of a run awake, which pays where no one else wants their cores.
        gpu_index: which GPU; None for the CPU.

    Raises:
        UnsupportedModel: ONNX Runtime refuses the graph, it is no decoder, or not one text fits into the memory.
        DeviceUnavailable: the GPU cannot be used.
    """
    on_cpu = gpu_index is None
    provider = CPU_PROVIDER if on_cpu else CUDA_PROVIDER
    device = ("cpu", 0) if gpu_index is None else ("cuda", gpu_index)
    options: Any = onnxruntime.SessionOptions()
    # Set always: ONNX Runtime would size its pool from the host rather than from the cgroup.
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A step is some 200 short parallel sections. With cores of its own, threads that spin between them make it a fifth faster; where
    # others want the cores, spinning made it 1.6 times slower. Either way they stop when the run does.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin else "0")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = _LOG_ERRORS_ONLY
    proto = read_proto(model_file, model=model)
    keep_last_position(proto)
    # The changed graph goes in from memory, so ONNX Runtime has to be told where the weights beside it are.
    options.add_session_config_entry(_WEIGHTS_FOLDER, str(model_file.parent))
    provider_options = {} if on_cpu else {"device_id": str(gpu_index), "arena_extend_strategy": "kSameAsRequested"}
    try:
        session: Any = onnxruntime.InferenceSession(
            proto.SerializeToString(), sess_options=options, providers=[(provider, provider_options)]
        )
    except Exception as error:  # ONNX Runtime has no public base class for its errors
        raise UnsupportedModel(model, model_file.name, f"ONNX Runtime refuses it: {error}") from error
    in_use = session.get_providers()[0]
    if in_use != provider:
        raise DeviceUnavailable(
            f"{provider} was asked for, ONNX Runtime fell back to {in_use}: look for its error above"
        )
    layout = read_layout(session, proto, model_file, model=model)
    slots = min(limits.slots_max, limits.cache_bytes_max // layout.cache_bytes(limits.positions))
    if slots < 1:
        raise UnsupportedModel(
            model,
            "cache_bytes_max",
            f"one text of {limits.positions} tokens takes {layout.cache_bytes(limits.positions)} bytes, "
            f"there may be {limits.cache_bytes_max}",
        )
    if not layout.shared:
        # The whole past goes in and out with every step: that it crosses to a GPU and back is the least of its costs.
        host = HostCache(layout, slots, limits.positions)
        runner: Runner = GrownRunner(session, layout, host, model=model)
        return LoadedGraph(layout=layout, cache=host, runner=runner, execution_provider=in_use)
    cache: KvCache
    if on_cpu:
        cache = HostCache(layout, slots, limits.positions)
    else:
        cache = DeviceCache(layout, slots, limits.positions, device=device, provider=(provider, provider_options))
    runner = SharedRunner(session, layout, cache, model=model, width_max=limits.prefill_tokens, device=device)
    return LoadedGraph(layout=layout, cache=cache, runner=runner, execution_provider=in_use)
