"""The generator's settings: `GANNET_GENERATOR_*` in the environment, `[generator]` in a TOML file."""

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_settings import SettingsConfigDict

from gannet_service.config import ServiceConfig

# What requests call the generator that quotes, and the decoder.
EXTRACTIVE = "extractive"
DECODER = "decoder"


class UpstreamConfig(BaseModel):
    """A server that speaks OpenAI's chat completions, and how it is asked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_url: str = Field(
        pattern=r"^https?://\S+$",
        max_length=2048,
        description="Up to and with the version, e.g. `https://api.openai.com/v1` or `http://vllm:8000/v1`.",
    )
    model: str = Field(min_length=1, max_length=256, description="The upstream's name of the model.")
    key_file: Path | None = Field(
        None, description="File with the key, read again when it changes; empty for a server that wants none."
    )
    name: str = Field(
        "upstream", pattern="^[a-z][a-z0-9-]{0,39}$", description="What requests call the generator; unique."
    )
    tokens_max: int = Field(4096, ge=1, le=1_000_000, description="Most tokens of one answer.")
    tokens_default: int = Field(
        1024,
        ge=1,
        le=1_000_000,
        description="Most tokens of an answer whose request does not say; at most `tokens_max`.",
    )
    tokens_field: Literal["max_tokens", "max_completion_tokens"] = Field(
        "max_tokens", description="What the upstream calls that bound; OpenAI's reasoning models want the second."
    )
    context_tokens_max: int = Field(
        0,
        ge=0,
        le=100_000_000,
        description="Most tokens of prompt and answer together, for prompts to be packed by; 0 if unknown.",
    )
    streams_max: int = Field(64, ge=1, le=10_000, description="Answers in work at once.")
    queue_max: int = Field(64, ge=0, le=10_000, description="Requests that may wait for that; more are refused.")
    attempts_max: int = Field(3, ge=1, le=10, description="Attempts at a first token; never repeated after it.")
    backoff_s: float = Field(
        0.2, ge=0, le=10, description="Longest pause before the second attempt, seconds; doubles to 2."
    )
    connect_timeout_s: float = Field(3.0, gt=0, le=60, description="Most time for a connection, seconds.")
    first_token_timeout_s: float = Field(
        20.0, gt=0, le=600, description="Most time from an attempt's start to its first token, seconds."
    )
    next_token_timeout_s: float = Field(10.0, gt=0, le=600, description="Longest silence after that, seconds.")

    @model_validator(mode="after")
    def _the_default_is_allowed(self) -> Self:
        if self.tokens_default > self.tokens_max:
            raise ValueError(f"tokens_default {self.tokens_default} is more than tokens_max {self.tokens_max}")
        return self


class GeneratorConfig(ServiceConfig):
    """What the generator needs beyond every server's settings."""

    model_config = SettingsConfigDict(env_prefix="GANNET_GENERATOR_")
    service: ClassVar[str] = "generator"

    model: str = Field(
        "reranker-minilm-l6-qa",
        description="Manifest name of the cross-encoder that scores sentences against the question.",
    )
    models_dir: Path = Field(Path(".gannet/models"), description="Folder of the built models (`make models`).")
    manifest: Path | None = Field(
        None,
        description="A TOML manifest of your own, merged over the built-in one; empty uses the built-in one alone.",
    )
    precision: Literal["", "int8", "fp32"] = Field(
        "fp32",
        description="Precision of the weights; empty means the model's default in the manifest. `threshold` is calibrated on fp32.",
    )
    sessions: int = Field(
        0,
        ge=0,
        le=1024,
        description="Sentences that the model reads at once; 0 means one per `threads` available cores.",
    )
    threads: int = Field(
        1,
        ge=1,
        le=256,
        description="Cores that the model uses per sentence; several sentences side by side are faster.",
    )
    queue_texts_max: int = Field(
        16_384,  # 256 answers of `sentences_scored_max` sentences
        ge=1,
        le=1_000_000,
        description="Sentences that may wait for the model; more are refused with RESOURCE_EXHAUSTED.",
    )
    sources_max: int = Field(32, ge=1, le=1024, description="Sources in one request.")
    text_bytes_max: int = Field(
        65_536, ge=1, le=1 << 24, description="Longest question or source, bytes of UTF-8; a longer one is refused."
    )
    sentence_bytes_max: int = Field(
        600,
        ge=16,
        le=16_384,
        description="Longest sentence, bytes of UTF-8; a longer one is cut at the end of a clause.",
    )
    sentences_scored_max: int = Field(
        64,
        ge=1,
        le=4096,
        description="Sentences that the model reads for one answer, at most `queue_texts_max`; of more, those nearest to the "
        "question by their words are read.",
    )
    sentences_max: int = Field(
        3, ge=1, le=50, description="Sentences in an answer whose request does not say how many."
    )
    # Balanced accuracy between "the answer is there" and "only its topic is", 300 train questions each: SQuAD 0.810, MedQuAD 0.750;
    # from 0.5 to 2 their mean is within 0.01 of its best. See docs/quality.md and `make bench-extractive`.
    threshold: float = Field(
        1.0,
        ge=-100,
        le=100,
        allow_inf_nan=False,
        description="Logit that a sentence must reach to be said; where none does, there is no answer.",
    )
    # Of the sentences said beside the best, 70 % came from the document with the answer (MedQuAD); 67 % at 1, 66 % at 3.
    margin: float = Field(
        2.0,
        ge=0,
        le=100,
        description="Logits that a sentence may be below the best one; 0 says only the best and its equals.",
    )

    prompt_bytes_max: int = Field(
        1 << 20,
        ge=1,
        le=1 << 24,
        description="Most that the messages of one request may hold together, bytes of UTF-8.",
    )
    claims_max: int = Field(
        32,
        ge=1,
        le=1024,
        description="Claims in one Verify; with `verify_sentences_max` sentences each at most `queue_texts_max`.",
    )
    verify_sentences_max: int = Field(
        8,
        ge=1,
        le=256,
        description="Sentences that the model reads for one claim: those nearest to it by their words.",
    )
    verify_threshold: float = Field(
        0.5,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Score from which a claim counts as supported.",
    )

    decoder_model: str = Field(
        "",
        description="Manifest name of a decoder that writes answers, as the generator `decoder`; empty serves none.",
    )
    decoder_slots: int = Field(8, ge=1, le=256, description="Answers that the decoder writes at once.")
    decoder_context_tokens: int = Field(
        0,
        ge=0,
        le=32_768,
        description="Longest prompt and answer together, in tokens; 0 means the manifest's `tokens_max`.",
    )
    decoder_cache_mib: int = Field(
        1024,
        ge=1,
        le=1 << 20,
        description="Memory of the decoder's keys and values, MiB; where it does not hold `decoder_slots` answers there are fewer.",
    )
    decoder_prefix_mib: int = Field(
        128,
        ge=0,
        le=1 << 20,
        description="Memory of the keys and values of earlier prompts, whose common beginnings are not read again, MiB; 0 keeps none.",
    )
    # Not measured against other sizes: small enough that a prompt of 512 tokens holds the others up four times a little.
    decoder_prefill_tokens: int = Field(
        128,
        ge=1,
        le=4096,
        description="Tokens of a prompt that are read between two tokens of other answers.",
    )
    decoder_queue_max: int = Field(
        64, ge=1, le=65_536, description="Requests that may wait for the decoder; more get RESOURCE_EXHAUSTED."
    )
    decoder_threads: int = Field(
        0, ge=0, le=256, description="Cores that the decoder uses; 0 means all that are available."
    )
    decoder_spin: bool = Field(
        default=False,
        description="The decoder's threads wait for each other awake: faster by a fifth on cores of their own, much slower on shared ones.",
    )
    decoder_device: Literal["cpu", "cuda"] = Field("cpu", description="Where the decoder runs.")
    decoder_gpu: int = Field(0, ge=0, le=63, description="Which GPU, where `decoder_device` is cuda.")
    decoder_tokens_max: int = Field(
        1024, ge=1, le=32_768, description="Most tokens of an answer that the decoder writes."
    )
    decoder_temperature: float = Field(
        0.0,
        ge=0,
        le=2,
        allow_inf_nan=False,
        description="Temperature of requests that name none; 0 takes the likeliest token.",
    )

    upstreams: list[UpstreamConfig] = Field(
        [],
        max_length=16,
        description="Servers that write answers, each a generator; a JSON list in the environment, `[[generator.upstreams]]` in a file.",
    )

    default_generator: str = Field(
        EXTRACTIVE,
        description="Name of the generator that answers requests that name none: `extractive`, `decoder`, or an upstream's.",
    )

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [EXTRACTIVE, DECODER, *(upstream.name for upstream in self.upstreams)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"upstreams: more than one generator is called {' and '.join(twice)}")
        return self

    @model_validator(mode="after")
    def _the_default_is_served(self) -> Self:
        decoder = [DECODER] if self.decoder_model else []
        names = [EXTRACTIVE, *decoder, *(upstream.name for upstream in self.upstreams)]
        if self.default_generator not in names:
            raise ValueError(f"default_generator {self.default_generator!r} is not one of {', '.join(names)}")
        return self

    @model_validator(mode="after")
    def _an_answer_fits(self) -> Self:
        if self.sentences_scored_max > self.queue_texts_max:
            raise ValueError(
                f"sentences_scored_max {self.sentences_scored_max} is more than queue_texts_max {self.queue_texts_max}"
            )
        pairs = self.claims_max * self.verify_sentences_max
        if pairs > self.queue_texts_max:
            raise ValueError(
                f"claims_max times verify_sentences_max is {pairs}, more than queue_texts_max {self.queue_texts_max}"
            )
        return self
