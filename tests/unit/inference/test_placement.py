"""Device, precision and cores, by what the machine has."""

from importlib import metadata

import onnxruntime
import pytest

from gannet_inference import placement
from gannet_inference.errors import DeviceUnavailable
from gannet_inference.manifest import load_manifest
from gannet_inference.placement import Placement, cpu_instructions, default_precision, place
from gannet_inference.session import Gpu

X86 = "processor\t: 0\nflags\t\t: fpu sse2 {}\nbugs\t\t: none\n\nprocessor\t: 1\nflags\t\t: fpu\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd {}\n"


@pytest.fixture
def cpuinfo(monkeypatch, tmp_path):
    """Stands in for /proc/cpuinfo."""

    def write(text):
        (tmp_path / "cpuinfo").write_text(text, encoding="utf-8")
        monkeypatch.setattr(placement, "_CPUINFO", tmp_path / "cpuinfo")

    return write


@pytest.mark.parametrize(
    "text,instructions,precision",
    [
        (X86.format("avx2 avx512bw avx512_vnni"), "avx512_vnni", "int8"),
        (X86.format("avx2 avx_vnni"), "avx_vnni", "int8"),
        (X86.format("avx2 avx512f avx512bw"), "avx512bw", "fp32"),
        (X86.format("avx2"), "avx2", "fp32"),
        (X86.format("sse4_2"), "", "fp32"),
        (ARM.format("asimddp i8mm"), "i8mm", "int8"),
        (ARM.format("asimddp"), "asimddp", "int8"),
        (ARM.format("crc32"), "", "fp32"),
        ("", "", "fp32"),
    ],
)
def test_default_precision_is_int8_only_with_int8_dot_products(cpuinfo, text, instructions, precision):
    """Without them int8 saturates, so an unknown CPU gets fp32 too."""
    cpuinfo(text)

    assert instructions == cpu_instructions()
    assert precision == default_precision(load_manifest().entry("all-minilm-l6-v2"), cpu_instructions())


def test_cpu_instructions_without_cpuinfo_are_unknown(monkeypatch, tmp_path):
    """A system without that file is no error."""
    monkeypatch.setattr(placement, "_CPUINFO", tmp_path / "absent")

    assert cpu_instructions() == ""


def test_model_that_asks_for_fp32_keeps_it(tiny_model):
    """int8 dot products change nothing for a model whose own precision is fp32."""
    assert default_precision(tiny_model(), "avx512_vnni") == "fp32"


def _placement(*, gpu=None, instructions="avx512_vnni"):
    return Placement(gpu=gpu, sessions=1, threads=1, instructions=instructions, runtime="test")


GPU = Gpu(index=0, batch_tokens_max=1024)


def test_precision_on_a_gpu_is_fp16_unless_the_graph_is_given(tiny_model):
    """fp16 is written from weights; an export is taken as it is."""
    entry = tiny_model(precision="int8")

    assert _placement(gpu=GPU).precision(entry) == "fp16"
    assert _placement(gpu=GPU).precision(entry.model_copy(update={"format": "onnx"})) == "fp32"


@pytest.mark.parametrize(
    "placed,precision,warned",
    [
        (_placement(), "int8", None),
        (_placement(instructions="avx2"), "fp32", None),
        (_placement(instructions="avx2"), "int8", "may saturate"),
        (_placement(), "fp16", "slower than fp32"),
        (_placement(gpu=GPU), "fp16", None),
        (_placement(gpu=GPU), "int8", "no kernels"),
    ],
)
def test_configured_precision_wins_with_a_warning_where_it_does_not_suit(tiny_model, placed, precision, warned):
    """What is configured is opened, and the start says what it costs."""
    warning = placed.warning(precision)

    assert placed.precision(tiny_model(), precision) == precision
    assert (warning is None) if warned is None else (warning is not None and warned in warning)


def test_place_on_the_cpu_gives_every_core_one_text(monkeypatch):
    """One thread per text and one text per core, and whole texts' worth of cores where more threads are asked for."""
    monkeypatch.setattr(placement, "cores_available", lambda: 6)

    assert [(one.sessions, one.threads) for one in (place(), place(threads=4), place(sessions=3))] == [
        (6, 1),
        (1, 4),
        (3, 1),
    ]


def test_place_names_the_runtime_in_use():
    """Package, version and provider, for the log and Info."""
    version = metadata.version("onnxruntime")

    assert place().runtime == f"onnxruntime {version}, CPUExecutionProvider"


def test_place_cuda_without_its_runtime_is_refused(monkeypatch):
    """The error says what is installed and which extra is missing."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])

    with pytest.raises(DeviceUnavailable, match=r"needs onnxruntime-gpu, installed is onnxruntime .*\[gpu\]"):
        place("cuda")


def test_place_cuda_with_its_runtime_gathers_batches(monkeypatch):
    """Many texts in flight, on the GPU that was asked for."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])

    placed = place("cuda", gpu_index=1, batch_tokens_max=4096)

    assert placed.gpu == Gpu(index=1, batch_tokens_max=4096)
    assert placed.sessions == 64
    assert placed.runtime.endswith(", CUDAExecutionProvider")


def test_place_with_both_runtimes_installed_is_refused(monkeypatch):
    """They share files: which one would load depends on which was installed last."""
    monkeypatch.setattr(metadata, "version", lambda _: "1.0")

    with pytest.raises(DeviceUnavailable, match=r"onnxruntime 1\.0 and onnxruntime-gpu 1\.0 overwrite each other"):
        place()
