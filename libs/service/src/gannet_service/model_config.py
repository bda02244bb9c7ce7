"""What the servers of encoder models are configured by, beyond every server's settings."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from gannet_service.config import ServiceConfig


class ModelServiceConfig(ServiceConfig):
    """Where the models are, where they run, and how much a caller may ask of them."""

    # Open streams wait in the event loop alone; callers keep one open for as long as they live.
    concurrent_streams_max: int = Field(
        4096,
        ge=1,
        le=100_000,
        description="RPCs open at once whose callers stream to the server; more are refused with RESOURCE_EXHAUSTED.",
    )
    extra_models: list[str] = Field(
        [],
        max_length=64,
        description="Manifest names of models that are served too, to requests that name them; a JSON list in the environment.",
    )
    models_dir: Path = Field(Path(".gannet/models"), description="Folder of the built models (`make models`).")
    manifest: Path | None = Field(
        None,
        description="A TOML manifest of your own, merged over the built-in one; empty uses the built-in one alone.",
    )
    device: Literal["cpu", "cuda"] = Field(
        "cpu", description="Where the models run; cuda needs the package onnxruntime-gpu in place of onnxruntime."
    )
    gpu_index: int = Field(0, ge=0, le=63, description="Which GPU, for `device` cuda.")
    gpu_batch_tokens_max: int = Field(
        16_384,
        ge=64,
        le=1 << 20,
        description="Most tokens of one batch on a GPU, padding included; the start measures whether fewer are as fast.",
    )
    precision: Literal["", "int8", "fp16", "fp32"] = Field(
        "",
        description="Precision of the weights of all models; empty means each model's default in the manifest, but fp32 where the CPU "
        "has no int8 dot products, and fp16 on a GPU. Replicas on unequal CPUs need one precision named here, or their results differ.",
    )
    sessions: int = Field(
        0,
        ge=0,
        le=1024,
        description="Texts (of a reranker: pairs) read at once, by all models together; 0 means one per `threads` available cores, or 64 "
        "on a GPU.",
    )
    threads: int = Field(
        1, ge=1, le=256, description="Cores that a model uses per text; several texts side by side are faster."
    )
    text_bytes_max: int = Field(
        65_536,
        ge=1,
        le=1 << 24,
        description="Longest text, bytes of UTF-8; a longer one is refused, by an embedder it alone.",
    )
    stream_requests_max: int = Field(
        4, ge=1, le=1024, description="Messages of one stream in work at once; the server reads no further ahead."
    )
