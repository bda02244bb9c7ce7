"""The embedder's settings: `GANNET_EMBEDDER_*` in the environment, `[embedder]` in a TOML file."""

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from gannet_lexical.sparse import AVERAGE_LENGTH
from gannet_service.config import ServiceConfig


class EmbedderConfig(ServiceConfig):
    """What the embedder needs beyond every server's settings."""

    model_config = SettingsConfigDict(env_prefix="GANNET_EMBEDDER_")
    service: ClassVar[str] = "embedder"

    model: str = Field(
        "all-minilm-l6-v2", description="Manifest name of the bi-encoder; it answers requests that name none."
    )
    extra_models: list[str] = Field(
        [],
        max_length=64,
        description="Manifest names of bi-encoders that are served too, to requests that name them; a JSON list in the environment.",
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
        "has no int8 dot products, and fp16 on a GPU. Replicas on unequal CPUs need one precision named here, or their vectors differ.",
    )
    sessions: int = Field(
        0,
        ge=0,
        le=1024,
        description="Texts read at once, by all models together; 0 means one per `threads` available cores, or 64 on a GPU.",
    )
    threads: int = Field(
        1, ge=1, le=256, description="Cores that the model uses per text; several texts side by side are faster."
    )
    queue_texts_max: int = Field(
        4096,
        ge=1,
        le=1_000_000,
        description="Texts that may wait for the model; more are refused with RESOURCE_EXHAUSTED.",
    )
    batch_texts_max: int = Field(
        256,
        ge=1,
        le=65_536,
        description="Texts in one request; at most `queue_texts_max`, or a full one could never be served.",
    )
    text_bytes_max: int = Field(
        65_536, ge=1, le=1 << 24, description="Longest text, bytes of UTF-8; a longer one fails alone."
    )
    token_texts_max: int = Field(
        16,
        ge=1,
        le=65_536,
        description="Texts in one request for token vectors, which are 4 bytes times the model's dimensions for each token.",
    )
    stream_requests_max: int = Field(
        4,
        ge=1,
        le=1024,
        description="Messages of one stream in work at once; the server reads no further ahead. Every open stream counts in "
        "`concurrent_rpcs_max`.",
    )
    bm25_average_length: float = Field(
        AVERAGE_LENGTH,
        gt=0,
        le=1e6,
        allow_inf_nan=False,
        description="BM25's mean passage length, in terms, for requests that do not say theirs.",
    )

    @model_validator(mode="after")
    def _a_full_request_fits(self) -> Self:
        if self.batch_texts_max > self.queue_texts_max:
            raise ValueError(
                f"batch_texts_max {self.batch_texts_max} is more than queue_texts_max {self.queue_texts_max}"
            )
        return self
