"""A request as the parameters of a chat completion, and its chunks as what they say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openai.types.chat import ChatCompletionChunk

from gannet_generator.generation import Reason, Request, TokenLogprob, Usage

# OpenAI's seeds are signed.
_SEED_MASK = (1 << 63) - 1
_REASONS: Mapping[str, Reason] = {"stop": "stop", "length": "length", "content_filter": "content_filter"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """One chunk of the stream; `reason` ends the answer, `usage` may come behind it, `model` is empty where it is not told."""

    text: str
    logprobs: tuple[TokenLogprob, ...]
    reason: Reason | None
    usage: Usage | None
    model: str


def parameters(request: Request, *, model: str, tokens_max: int, tokens_field: str) -> dict[str, Any]:
    """The body of the request: nothing that was not asked for, since servers differ in what they know.

    Args:
        request: what to answer.
        model: the upstream's name of it.
        tokens_max: the bound on the answer, in force.
        tokens_field: what the upstream calls that bound.
    """
    sampling = request.sampling
    standard = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": seed(request),
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "stop": list(request.stop) or None,
        "logprobs": None if request.logprobs is None else True,
        "top_logprobs": request.logprobs or None,
    }
    # Of vLLM, and mostly of llama.cpp; OpenAI refuses them, by their names.
    extensions = {
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "repetition_penalty": sampling.repetition_penalty,
        "min_tokens": request.tokens_min or None,
    }
    return {
        "model": model,
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
        tokens_field: tokens_max,
        **{name: value for name, value in standard.items() if value is not None},
        "extra_body": {name: value for name, value in extensions.items() if value is not None},
    }


def seed(request: Request) -> int | None:
    """The seed as the upstream gets it."""
    asked = request.sampling.seed
    return None if asked is None else asked & _SEED_MASK


def read_chunk(raw: object, *, stop: Sequence[str]) -> Chunk:
    """What a chunk says.

    Raises:
        ValueError: it is not shaped like one; the client builds its objects without looking.
    """
    if not isinstance(raw, ChatCompletionChunk):
        raise ValueError("no chat completion chunk")  # noqa: TRY004 - whatever is wrong with a chunk is one kind of failure
    choices: object = getattr(raw, "choices", None)
    if not isinstance(choices, list):
        raise ValueError("a chunk without choices")  # noqa: TRY004
    model = _text(getattr(raw, "model", ""))
    usage = _usage(getattr(raw, "usage", None))
    if not choices:
        return Chunk(text="", logprobs=(), reason=None, usage=usage, model=model)
    choice: Any = choices[0]
    return Chunk(
        text=_text(getattr(getattr(choice, "delta", None), "content", "")),
        logprobs=_logprobs(getattr(choice, "logprobs", None)),
        reason=_reason(choice, stop),
        usage=usage,
        model=model,
    )


def _reason(choice: Any, stop: Sequence[str]) -> Reason | None:
    given = _text(getattr(choice, "finish_reason", None))
    if not given:
        return None
    # vLLM says which string it was; others say "stop" for those and for the end alike.
    if given == "stop" and getattr(choice, "stop_reason", None) in stop:
        return "stop_string"
    return _REASONS.get(given, "stop")


def _usage(usage: Any) -> Usage | None:
    prompt, completion = getattr(usage, "prompt_tokens", None), getattr(usage, "completion_tokens", None)
    if not isinstance(prompt, int) or not isinstance(completion, int) or min(prompt, completion) < 0:
        return None
    return Usage(prompt_tokens=prompt, completion_tokens=completion)


def _logprobs(logprobs: Any) -> tuple[TokenLogprob, ...]:
    content: Any = getattr(logprobs, "content", None) or ()
    return tuple(_logprob(one, tuple(_logprob(other) for other in one.top_logprobs or ())) for one in content)


def _logprob(one: Any, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
    token = one.token.encode("utf-8", "replace") if one.bytes is None else bytes(one.bytes)
    return TokenLogprob(token=token, token_id=0, logprob=float(one.logprob), top=top)


def _text(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError("a text that is none")  # noqa: TRY004
    return value


class Surrogates:
    """Joins the halves of characters that an upstream escaped in two, and replaces halves that stay alone."""

    def __init__(self) -> None:
        self._held = ""

    def add(self, text: str) -> str:
        """The text so far that is whole; a last half is held back for the next."""
        text = self._held + text
        self._held = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
        return _whole(text.removesuffix(self._held) if self._held else text)

    def end(self) -> str:
        """What is left."""
        held, self._held = self._held, ""
        return _whole(held)


def _whole(text: str) -> str:
    # Nearly every text: no half in it, and isascii or this check cost less than two conversions.
    if not any("\ud800" <= char <= "\udfff" for char in text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
