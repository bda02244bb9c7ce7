"""What is asked of the decoder and what it gives back."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

STOPS_MAX = 16
STOP_CHARS_MAX = 256
TOP_LOGPROBS_MAX = 20

FinishReason = Literal["stop", "stop_string", "length"]


class InvalidRequest(Exception):
    """A request outside of its limits.

    Attributes:
        field: the parameter at fault.
    """

    def __init__(self, field: str, problem: str) -> None:
        """Composes the message from its parts."""
        super().__init__(f"{field}: {problem}")
        self.field = field


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are chosen; the defaults take the best one.

    Attributes:
        temperature: 0..100; 0 takes the best token.
        top_k: tokens that are drawn from; 0 for all.
        top_p: 0..1, share of the probability that is drawn from.
        min_p: 0..1, least probability of a token as a share of the best one's.
        repetition_penalty: 0.01..100; 1 has no effect.
        presence_penalty: -100..100; 0 has no effect.
        frequency_penalty: -100..100; 0 has no effect.
        seed: 0..2^64-1; a token is decided by it, by the token's number in the answer and by the logits.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the limits.

        Raises:
            InvalidRequest: naming the parameter.
        """
        limits: dict[str, tuple[float, float]] = {
            "temperature": (0, 100),
            "top_k": (0, 2**31),
            "top_p": (0, 1),
            "min_p": (0, 1),
            "repetition_penalty": (0.01, 100),
            "presence_penalty": (-100, 100),
            "frequency_penalty": (-100, 100),
            "seed": (0, 2**64 - 1),
        }
        for field, (least, most) in limits.items():
            value = getattr(self, field)
            if not least <= value <= most:
                raise InvalidRequest(field, f"{value}, must be {least:g} to {most:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeRequest:
    """One text to go on with.

    Attributes:
        prompt: i64[T], at least one token.
        tokens_max: most tokens to add, >= 1; together with the prompt within a slot's positions.
        tokens_min: no end of text and no stop string ends the text before so many tokens.
        sampling: how tokens are chosen.
        stop: strings that end the text and are not part of it; at most 16 of 1 to 256 characters.
        logprobs: -1 for none, else each token's log probability, with those of so many best tokens beside it, 0..20.
        ends_at_s: monotonic time at which the work is worth nothing any more.
    """

    prompt: NDArray[np.int64]
    tokens_max: int
    tokens_min: int = 0
    sampling: Sampling = Sampling()
    stop: tuple[str, ...] = ()
    logprobs: int = -1
    ends_at_s: float = math.inf

    def __post_init__(self) -> None:
        """Checks the limits that do not depend on the model.

        Raises:
            InvalidRequest: naming the parameter.
        """
        if len(self.prompt) == 0:
            raise InvalidRequest("prompt", "has no token")
        if self.tokens_max < 1:
            raise InvalidRequest("tokens_max", f"{self.tokens_max}, must be at least 1")
        if not 0 <= self.tokens_min <= self.tokens_max:
            raise InvalidRequest("tokens_min", f"{self.tokens_min}, must be 0 to tokens_max, {self.tokens_max}")
        if len(self.stop) > STOPS_MAX:
            raise InvalidRequest("stop", f"{len(self.stop)} strings, must be at most {STOPS_MAX}")
        if not all(1 <= len(stop) <= STOP_CHARS_MAX for stop in self.stop):
            raise InvalidRequest("stop", f"a string is empty or longer than {STOP_CHARS_MAX} characters")
        if not -1 <= self.logprobs <= TOP_LOGPROBS_MAX:
            raise InvalidRequest("logprobs", f"{self.logprobs}, must be 0 to {TOP_LOGPROBS_MAX}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token that was chosen.

    Attributes:
        id: in the vocabulary.
        logprob: log of its probability before penalties and temperature; NaN where none was asked for.
        top: the best tokens with theirs, best first.
    """

    id: int
    logprob: float = math.nan
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a text ended.

    Attributes:
        reason: "stop" for the end of the text, "stop_string" for one of the request's, "length" for `tokens_max`.
        prompt_tokens: of the prompt.
        reused_tokens: of these, those whose keys were known from earlier prompts.
        tokens: added, an end of text included.
        queue_s: from the request until a slot was free.
        prefill_s: from then until the first token.
        decode_s: from then until the last one.
    """

    reason: FinishReason
    prompt_tokens: int
    reused_tokens: int
    tokens: int
    queue_s: float
    prefill_s: float
    decode_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """What is new of a text since the last chunk.

    Attributes:
        text: whole characters, and nothing that may yet turn out to be a stop string; empty in a last chunk alone.
        tokens: those chosen since; the text of the last ones may still be held back.
        finished: set in the last chunk of a text that ended well.
        error: set in the last chunk of one that did not.
    """

    text: str = ""
    tokens: tuple[Token, ...] = ()
    finished: Finished | None = None
    error: Exception | None = None

    @property
    def is_last(self) -> bool:
        """Whether nothing follows."""
        return self.finished is not None or self.error is not None

    def then(self, other: "Chunk") -> "Chunk":
        """Both in one, for a reader who has fallen behind."""
        return Chunk(
            text=self.text + other.text,
            tokens=self.tokens + other.tokens,
            finished=other.finished,
            error=other.error,
        )
