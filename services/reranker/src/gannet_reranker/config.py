"""The reranker's settings: `GANNET_RERANKER_*` in the environment, `[reranker]` in a TOML file."""

from typing import ClassVar, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from gannet_service.model_config import ModelServiceConfig


class RerankerConfig(ModelServiceConfig):
    """What the reranker needs beyond the settings of every server of models."""

    model_config = SettingsConfigDict(env_prefix="GANNET_RERANKER_")
    service: ClassVar[str] = "reranker"

    model: str = Field(
        "reranker-minilm-l6-qa", description="Manifest name of the cross-encoder; it answers requests that name none."
    )
    queue_texts_max: int = Field(
        2048,
        ge=1,
        le=1_000_000,
        description="Windows of passages that may wait for a model; more are refused with RESOURCE_EXHAUSTED.",
    )
    batch_texts_max: int = Field(
        256,
        ge=1,
        le=65_536,
        description="Passages in one request; with `windows_max` windows each at most `queue_texts_max`, or a full one could never "
        "be served.",
    )
    windows_max: int = Field(
        8,
        ge=1,
        le=256,
        description="Windows read of a passage that is too long for the model, each sharing a quarter with the next; 1 cuts passages.",
    )

    @model_validator(mode="after")
    def _a_full_request_fits(self) -> Self:
        if self.batch_texts_max * self.windows_max > self.queue_texts_max:
            raise ValueError(
                f"batch_texts_max {self.batch_texts_max} times windows_max {self.windows_max} is more than "
                f"queue_texts_max {self.queue_texts_max}"
            )
        return self
