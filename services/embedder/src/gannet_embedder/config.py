"""The embedder's settings: `GANNET_EMBEDDER_*` in the environment, `[embedder]` in a TOML file."""

from typing import ClassVar, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from gannet_lexical.sparse import AVERAGE_LENGTH
from gannet_service.model_config import ModelServiceConfig


class EmbedderConfig(ModelServiceConfig):
    """What the embedder needs beyond the settings of every server of models."""

    model_config = SettingsConfigDict(env_prefix="GANNET_EMBEDDER_")
    service: ClassVar[str] = "embedder"

    model: str = Field(
        "all-minilm-l6-v2", description="Manifest name of the bi-encoder; it answers requests that name none."
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
    token_texts_max: int = Field(
        16,
        ge=1,
        le=65_536,
        description="Texts in one request for token vectors, which are 4 bytes times the model's dimensions for each token.",
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
