"""What a request may hold: every bound of the contract is checked here, and a request that breaks one is told which."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gannet_generator.generation import Description, Message, Request, Sampling, Source
from gannet_service.errors import InvalidInput

# The contract's own bounds; the others are settings.
SENTENCES_MAX = 50
MESSAGES_MAX = 256
STOP_MAX = 16
STOP_BYTES_MAX = 256
LOGPROBS_MAX = 20
TOP_K_MAX = 1000
TEXTS_MAX = 1024
SPANS_MAX = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds that are settings."""

    sources_max: int
    text_bytes_max: int
    prompt_bytes_max: int
    claims_max: int


def check_generate(request: Request, limits: Limits, generator: Description) -> None:
    """Refuse a request that breaks a limit, or lacks what this generator reads.

    Raises:
        InvalidInput: naming the field and the limit.
    """
    if not generator.free_text:
        _check_not_empty("question", request.question)
        _check_some("sources", len(request.sources), limits.sources_max)
    elif not request.messages:
        raise InvalidInput("messages: none, and this generator writes from messages", field="messages")
    _check_size("question", request.question, limits.text_bytes_max)
    _check_sources(request.sources, limits)
    _check_most("sentences_max", request.sentences_max, SENTENCES_MAX)
    _check_messages(request.messages, limits)
    if request.messages and request.messages[-1].role == "assistant":
        raise InvalidInput("messages: the last one is the assistant's, there is nothing to answer", field="messages")
    if generator.free_text:
        _check_most("max_tokens", request.tokens_max, generator.tokens_max)
        _check_most("min_tokens", request.tokens_min, request.tokens_max or generator.tokens_max)
    _check_sampling(request.sampling)
    if request.logprobs is not None:
        _check_most("logprobs", request.logprobs, LOGPROBS_MAX)
    _check_stop(request.stop)


def check_count(messages: Sequence[Message], texts: Sequence[str], limits: Limits) -> None:
    """Refuse a request to count that breaks a limit; raises InvalidInput, naming the field and the limit."""
    _check_messages(messages, limits)
    _check_most("texts", len(texts), TEXTS_MAX)
    for place, text in enumerate(texts):
        _check_size(f"texts[{place}]", text, limits.text_bytes_max)


def check_verify(claims: Sequence[str], sources: Sequence[Source], spans_max: int, limits: Limits) -> None:
    """Refuse a request to verify that breaks a limit; raises InvalidInput, naming the field and the limit."""
    _check_some("claims", len(claims), limits.claims_max)
    for place, claim in enumerate(claims):
        _check_not_empty(f"claims[{place}]", claim)
        _check_size(f"claims[{place}]", claim, limits.text_bytes_max)
    _check_some("sources", len(sources), limits.sources_max)
    _check_sources(sources, limits)
    _check_most("spans_max", spans_max, SPANS_MAX)


def _check_sources(sources: Sequence[Source], limits: Limits) -> None:
    _check_most("sources", len(sources), limits.sources_max)
    for place, source in enumerate(sources):
        _check_size(f"sources[{place}].text", source.text, limits.text_bytes_max)


def _check_messages(messages: Sequence[Message], limits: Limits) -> None:
    _check_most("messages", len(messages), MESSAGES_MAX)
    size = sum(len(message.content.encode()) for message in messages)
    if size > limits.prompt_bytes_max:
        raise InvalidInput(
            f"messages: {size} bytes together, must be at most {limits.prompt_bytes_max}",
            field="messages",
            reason="TEXT_TOO_LONG",
        )


def _check_sampling(sampling: Sampling) -> None:
    _check_range("temperature", sampling.temperature, 0.0, 2.0)
    _check_range("top_p", sampling.top_p, 0.0, 1.0, above=True)
    if sampling.top_k is not None:
        _check_most("top_k", sampling.top_k, TOP_K_MAX)
    _check_range("min_p", sampling.min_p, 0.0, 1.0)
    _check_range("repetition_penalty", sampling.repetition_penalty, 0.0, 2.0, above=True)
    _check_range("presence_penalty", sampling.presence_penalty, -2.0, 2.0)
    _check_range("frequency_penalty", sampling.frequency_penalty, -2.0, 2.0)


def _check_stop(stop: Sequence[str]) -> None:
    _check_most("stop", len(stop), STOP_MAX)
    for place, text in enumerate(stop):
        size = len(text.encode())
        if not 1 <= size <= STOP_BYTES_MAX:
            raise InvalidInput(f"stop[{place}]: {size} bytes, must be 1 to {STOP_BYTES_MAX}", field=f"stop[{place}]")


def _check_range(field: str, value: float | None, least: float, most: float, *, above: bool = False) -> None:
    """Refuses NaN too: it is in no range."""
    if value is None or (math.isfinite(value) and least <= value <= most and not (above and value == least)):
        return
    bound = f"above {least:g}" if above else f"at least {least:g}"
    raise InvalidInput(f"{field}: {value:g}, must be {bound} and at most {most:g}", field=field)


def _check_not_empty(field: str, text: str) -> None:
    if not text.strip():
        raise InvalidInput(f"{field}: must not be empty", field=field)


def _check_some(field: str, count: int, most: int) -> None:
    if not 1 <= count <= most:
        raise InvalidInput(f"{field}: {count}, must be 1 to {most}", field=field)


def _check_most(field: str, value: int, most: int) -> None:
    if value > most:
        raise InvalidInput(f"{field}: {value}, must be at most {most}", field=field)


def _check_size(field: str, text: str, bytes_max: int) -> None:
    size = len(text.encode())
    if size > bytes_max:
        raise InvalidInput(f"{field}: {size} bytes, must be at most {bytes_max}", field=field, reason="TEXT_TOO_LONG")
