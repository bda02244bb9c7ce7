"""Where models run: the device, the cores a text gets, how many texts at once, and the precision that suits the CPU."""

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import onnxruntime

from gannet_inference.errors import DeviceUnavailable
from gannet_inference.manifest import ModelEntry, Precision
from gannet_inference.session import CPU_PROVIDER, CUDA_PROVIDER, Gpu, cores_available

Device = Literal["cpu", "cuda"]

_CPUINFO = Path("/proc/cpuinfo")
# Instructions that ONNX Runtime's int8 products use, the best first, by their names in /proc/cpuinfo. Those in the first
# group add four products to 32 bits in one go. Without them pairs are added in 16 bits, which saturates with full-range
# weights, and int8 is hardly faster than fp32.
_INT8_DOT = ("avx512_vnni", "avx_vnni", "i8mm", "asimddp")
_OTHERS = ("avx512bw", "avx2")
# Texts in flight on a GPU: enough for a batch of short ones while the batch before it runs.
_GPU_SESSIONS = 64


def cpu_instructions() -> str:
    """The best of the instructions that matter to int8, by its name in /proc/cpuinfo; empty where none is known."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    # One line per core, "flags" on x86 and "Features" on Arm; cores of one machine have the same.
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))), [])
    return next((name for name in (*_INT8_DOT, *_OTHERS) if name in flags), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a server's models run.

    Attributes:
        gpu: the GPU; None for the CPU.
        sessions: texts read at once, by all models together.
        threads: cores per text.
        instructions: what `cpu_instructions` found.
        runtime: the ONNX Runtime in use, package and version.
    """

    gpu: Gpu | None
    sessions: int
    threads: int
    instructions: str
    runtime: str

    def precision(self, entry: ModelEntry, configured: Precision | None = None) -> Precision:
        """The precision to open a model in: the configured one, else the one that suits the device."""
        if configured is not None:
            return configured
        if self.gpu is not None:
            return "fp16" if entry.format == "safetensors" else "fp32"
        return default_precision(entry, self.instructions)

    def warning(self, precision: Precision) -> str | None:
        """Why this precision is a poor choice here; None where it is not."""
        if self.gpu is None and precision == "int8" and self.instructions not in _INT8_DOT:
            return "this CPU has no int8 dot products: int8 may saturate and is no faster; fp32 is its default"
        if self.gpu is None and precision == "fp16":
            return "this CPU computes fp16 in fp32 with casts between: slower than fp32 and less exact"
        if self.gpu is not None and precision == "int8":
            return "the GPU has no kernels for dynamic int8: those products run on the CPU; fp16 is its default"
        return None


def default_precision(entry: ModelEntry, instructions: str) -> Precision:
    """The entry's own precision, but fp32 for int8 on a CPU without int8 dot products."""
    return "fp32" if entry.precision == "int8" and instructions not in _INT8_DOT else entry.precision


def place(
    device: Device = "cpu", *, gpu_index: int = 0, batch_tokens_max: int = 16_384, sessions: int = 0, threads: int = 1
) -> Placement:
    """Decides where models run.

    Args:
        device: "cpu" or "cuda".
        gpu_index: which GPU.
        batch_tokens_max: most tokens of one batch on a GPU, padding included.
        sessions: texts read at once; 0 for one per `threads` available cores, or 64 on a GPU, which makes batches of them.
            Side by side with one core each, two texts read 1.3 to 2.1 times as fast as one on both (docs/adr/0012).
        threads: cores per text.

    Raises:
        DeviceUnavailable: the ONNX Runtime that is installed has no kernels for the device, or two are installed at once.
    """
    runtime = _runtime()
    if device == "cuda" and CUDA_PROVIDER not in onnxruntime.get_available_providers():
        raise DeviceUnavailable(
            f"device cuda needs onnxruntime-gpu, installed is {runtime}: install the extra [gpu], not [cpu]"
        )
    gpu = Gpu(index=gpu_index, batch_tokens_max=batch_tokens_max) if device == "cuda" else None
    return Placement(
        gpu=gpu,
        sessions=sessions or (_GPU_SESSIONS if gpu else max(1, cores_available() // threads)),
        threads=threads,
        instructions=cpu_instructions(),
        runtime=f"{runtime}, {CUDA_PROVIDER if gpu else CPU_PROVIDER}",
    )


def _runtime() -> str:
    installed: list[str] = []
    for name in ("onnxruntime", "onnxruntime-gpu"):
        try:
            installed.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    if len(installed) > 1:
        raise DeviceUnavailable(f"{' and '.join(installed)} overwrite each other's files: uninstall both, install one")
    return installed[0] if installed else f"onnxruntime {onnxruntime.__version__}"
