"""What every generator takes and gives: a request, the events of an answer, and what a generator says of itself.

A generator is one async method. There are few of them, they are made by plain constructors in `__main__`, and a request names the one it
wants: no registry, nothing to plug in.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Kind = Literal["extractive", "decoder", "upstream"]
Role = Literal["system", "user", "assistant"]
# Why an answer ended: FinishReason without its prefix, in lower case.
Reason = Literal["stop", "length", "no_answer", "stop_string", "content_filter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A passage to answer from, and the title of its document, which may be empty."""

    text: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of the conversation to go on with."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are chosen; None means the generator's default. Bounds and meanings are GenerateRequest's."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to answer. A generator that quotes reads the first three, one that writes freely the others.

    Attributes:
        question: what is asked; may be empty where messages are given.
        sources: the passages, best first.
        sentences_max: most sentences, >= 1.
        messages: the conversation, oldest first.
        tokens_max: most tokens of the answer, within the generator's own; 0 for its default.
        tokens_min: tokens before the model may end, <= tokens_max where that is given.
        sampling: how tokens are chosen.
        stop: strings that end the answer and are not part of it; none is empty.
        logprobs: likeliest tokens to tell with each token; None for no log probabilities at all.
    """

    question: str = ""
    sources: Sequence[Source] = ()
    sentences_max: int = 1
    messages: Sequence[Message] = ()
    tokens_max: int = 0
    tokens_min: int = 0
    sampling: Sampling = Sampling()
    stop: Sequence[str] = ()
    logprobs: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprob:
    """A token, in bytes since it may be part of a character, and its log probability; `top` are the likeliest in its place."""

    token: bytes
    token_id: int
    logprob: float
    top: tuple["TokenLogprob", ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """Text to append to the answer, never empty, and the tokens since the last delta where there are any to show."""

    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSpan:
    """Bytes `start_byte` to `end_byte` of a source."""

    source_index: int
    start_byte: int
    end_byte: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """Bytes `start_byte` to `end_byte` of the answer stand, byte for byte, at each of `spans`."""

    start_byte: int
    end_byte: int
    spans: tuple[SourceSpan, ...]
    logit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of a model that writes: read, and written."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the cross-encoder read for a quoted answer; `best_logit` is the best sentence's, said or not, 0 where there was none."""

    best_logit: float
    sentences: int
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The end of an answer, and the last event of every stream that does not raise.

    Attributes:
        reason: why it ended.
        model: what wrote it.
        queue_s: time before work began.
        usage: None where nothing was written by a model, or nobody knows.
        reading: None where nothing was quoted.
        seed: the one that was used; None where nothing is drawn or nobody knows.
        token_ids: the tokens since the last delta: no text came of them.
        logprobs: one for each of these, where they were asked for.
    """

    reason: Reason
    model: str
    queue_s: float = 0.0
    usage: Usage | None = None
    reading: Reading | None = None
    seed: int | None = None
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


Event = Delta | Citation | Finished


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCounts:
    """The length of the prompt that messages become, 0 without messages, and of each text; estimates unless `exact`."""

    prompt: int
    texts: Sequence[int]
    exact: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a generator says of itself.

    Attributes:
        kind: how it answers.
        model: the manifest name of its model, or the name by which the upstream knows it.
        model_digest: sha256 (hex) over the files that determine an answer; empty for an upstream.
        precision: of the weights; empty for an upstream.
        threshold: what a sentence must reach to be said; 0 where nothing is quoted.
        context_tokens_max: most tokens of prompt and answer together; 0 where there is no such limit or nobody knows.
        tokens_max: most tokens of an answer; 0 where nothing is written.
    """

    kind: Kind
    model: str
    model_digest: str = ""
    precision: str = ""
    threshold: float = 0.0
    context_tokens_max: int = 0
    tokens_max: int = 0

    @property
    def free_text(self) -> bool:
        """Whether it writes freely, from messages, and does not quote."""
        return self.kind != "extractive"


class Generator(Protocol):
    """Answers requests, many at once."""

    @property
    def description(self) -> Description:
        """What it is; never changes."""
        ...

    def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        """The events of one answer, `Finished` last. Closing the iterator stops the work.

        Raises:
            GannetError: the answer failed, with what the error table says; what was said before stands.
        """
        ...

    async def count_tokens(self, messages: Sequence[Message], texts: Sequence[str]) -> TokenCounts:
        """How much of the context messages and texts take.

        Raises:
            GannetError: they cannot be counted now.
        """
        ...

    async def close(self) -> None:
        """Drop what waits, let what runs finish, and give back what is held."""
        ...
