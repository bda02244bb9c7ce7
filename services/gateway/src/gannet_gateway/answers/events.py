"""What an answer is made of: its events, as plain values."""

from dataclasses import dataclass

from gannet_gateway.search.query import Degradation, Mode, Passage, Timings


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model that may take part; `role` is "embedder" or "generator/{name}"."""

    role: str
    model: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The answer has begun, from this generation; searched for is what `rewritten_queries` say, if anything."""

    generation: int
    rewritten_queries: tuple[str, ...] = ()
    models: tuple[Model, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieved:
    """The passages that the answer is made from."""

    passages: tuple[Passage, ...]
    mode: Mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """The next piece of text, beginning at `start_byte` of the answer."""

    text: str
    start_byte: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Bytes `start_byte` to `end_byte` of the document of a retrieved passage."""

    passage_index: int
    start_byte: int
    end_byte: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """Bytes `start_byte` to `end_byte` of the answer are supported by `sources`."""

    start_byte: int
    end_byte: int
    sources: tuple[Source, ...]
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """Nothing happened for a while, and the answer is still being made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """The whole answer; `reason` is the name of a FinishReason. `first_delta_us` is 0 if nothing was said.

    `unsupported` are byte spans of sentences that no passage supports.
    """

    text: str
    citations: tuple[Citation, ...]
    reason: str
    passages: int
    sentences_scored: int
    tokens_read: int
    search_timings: Timings
    first_delta_us: int
    total_us: int
    unsupported: tuple[tuple[int, int], ...] = ()
    generator: str = ""
    model: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    queue_us: int = 0
    verify_us: int = 0


Event = Started | Retrieved | Delta | Citation | Heartbeat | Degradation | Completed
