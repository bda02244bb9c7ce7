"""Answers through an upstream: wait for a place, ask, pass on what comes, and say clearly what went wrong.

Attempts are repeated until the first token only: whoever has read a beginning cannot be given another one.
"""

import asyncio
import contextlib
import math
import random
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import cast

import openai
import structlog

from gannet_generator.generation import (
    Delta,
    Description,
    Event,
    Finished,
    Message,
    Request,
    TokenCounts,
    TokenLogprob,
)
from gannet_generator.upstream.chat import Chunk, Surrogates, parameters, read_chunk, seed
from gannet_generator.upstream.failures import Interrupted, broken, translated
from gannet_generator.upstream.key import KeyFile
from gannet_service import call
from gannet_service.errors import DependencyUnavailable, Overloaded

_log: structlog.stdlib.BoundLogger = structlog.get_logger("upstream")

# English has about four bytes a token, other languages and code fewer: an estimate that rather errs to the high side.
_BYTES_A_TOKEN = 3
_TOKENS_A_MESSAGE = 8
# An upstream that ignores its bound on tokens is stopped here: hardly any token has as many characters.
_CHARS_A_TOKEN_MAX = 64
# How long the last words about an answer, its usage, are waited for once it has ended.
_USAGE_WAIT_S = 2.0
_BACKOFF_S_MAX = 2.0
_ASK_AGAIN_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """What is asked, and how patiently.

    Attributes:
        name: the generator's.
        base_url: up to and with the version, e.g. `http://host:8000/v1`.
        model: the upstream's name of it.
        tokens_max: most tokens of one answer.
        tokens_default: tokens of an answer whose request does not say.
        tokens_field: what the upstream calls that bound.
        context_tokens_max: most tokens of prompt and answer together; 0 if unknown.
        streams_max: answers in work at once.
        queue_max: requests that may wait for one of them.
        attempts_max: attempts at a first token, >= 1.
        backoff_s: longest pause before the second attempt; doubles with each.
        connect_timeout_s: most time for a connection.
        first_token_timeout_s: most time from the attempt's start to the first token.
        next_token_timeout_s: longest silence after that.
    """

    name: str
    base_url: str
    model: str
    tokens_max: int
    tokens_default: int
    tokens_field: str
    context_tokens_max: int
    streams_max: int
    queue_max: int
    attempts_max: int
    backoff_s: float
    connect_timeout_s: float
    first_token_timeout_s: float
    next_token_timeout_s: float


class UpstreamGenerator:
    """Writes answers through an OpenAI-compatible server."""

    def __init__(self, upstream: Upstream, key: KeyFile) -> None:
        """Opens the client; nothing is connected yet."""
        self._upstream = upstream
        self._key = key
        # Retries and timeouts are ours: the client's know neither the first token nor the caller's deadline.
        self._client = openai.AsyncOpenAI(
            base_url=upstream.base_url,
            api_key=self._read_key,
            max_retries=0,
            timeout=openai.Timeout(None, connect=upstream.connect_timeout_s),
        )
        self._places = asyncio.Semaphore(upstream.streams_max)
        self._waiting = 0
        self.description = Description(
            kind="upstream",
            model=upstream.model,
            context_tokens_max=upstream.context_tokens_max,
            tokens_max=upstream.tokens_max,
        )

    async def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        """Answer from the messages; closing the iterator closes the upstream's stream.

        Raises:
            Overloaded: too many wait here, or the upstream has no room.
            PermissionDenied: the upstream refuses the key.
            InvalidInput: it refuses the request.
            DependencyUnavailable: it cannot be reached, is too slow, fails, or breaks off; what was said before stands.
        """
        started = time.perf_counter()
        async with self._place():
            queue_s = time.perf_counter() - started
            async with contextlib.aclosing(self._begun(request)) as chunks:
                async for event in _spoken(chunks, self._upstream, request, queue_s=queue_s):
                    yield event

    async def count_tokens(self, messages: Sequence[Message], texts: Sequence[str]) -> TokenCounts:
        """Estimates from the length in bytes: the upstream's tokenizer is not here."""
        prompt = sum(_estimate(message.content) + _TOKENS_A_MESSAGE for message in messages)
        return TokenCounts(prompt=prompt, texts=[_estimate(text) for text in texts], exact=False)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _read_key(self) -> str:
        return await asyncio.to_thread(self._key.current)

    @contextlib.asynccontextmanager
    async def _place(self) -> AsyncGenerator[None]:
        """One of the upstream's places; waits for it if few others do."""
        if self._places.locked() and self._waiting >= self._upstream.queue_max:
            raise Overloaded(f"{self._upstream.name}: {self._waiting} answers wait already", retry_after_s=_ASK_AGAIN_S)
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._places.release()

    async def _begun(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """The chunks of the first attempt that gives text."""
        attempt = 1
        while True:
            said = False
            try:
                async with contextlib.aclosing(self._attempt(request)) as chunks:
                    async for chunk in chunks:
                        said = said or bool(chunk.text)
                        yield chunk
                return
            except Interrupted as error:
                pause_s = self._pause_s(attempt)
                if said or attempt == self._upstream.attempts_max or pause_s >= call.remaining_s(pause_s + 1.0):
                    raise
                _log.warning("asking again", generator=self._upstream.name, attempt=attempt, error=error.message)
                await asyncio.sleep(pause_s)
                attempt += 1

    async def _attempt(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """The chunks of one HTTP request, each waited for as long as it may take; raises GannetError alone."""
        upstream = self._upstream
        body = parameters(
            request,
            model=upstream.model,
            tokens_max=request.tokens_max or upstream.tokens_default,
            tokens_field=upstream.tokens_field,
        )
        now = asyncio.get_running_loop().time
        # The first token may be long in coming; what comes before it, a role or a thought, does not make it longer.
        until = now() + upstream.first_token_timeout_s
        stream: openai.AsyncStream[object] | None = None
        said, ended = False, False
        try:
            async with asyncio.timeout_at(until):
                stream = cast("openai.AsyncStream[object]", await self._client.chat.completions.create(**body))
            while True:
                async with asyncio.timeout_at(until):
                    raw = await anext(stream, None)
                if raw is None:
                    break
                chunk = read_chunk(raw, stop=request.stop)
                said, ended = said or bool(chunk.text), ended or chunk.reason is not None
                yield chunk
                if ended:
                    until = now() + _USAGE_WAIT_S
                elif said:
                    until = now() + upstream.next_token_timeout_s
        # The client builds its objects out of whatever comes: a stream that is no such stream fails in many ways.
        except (openai.OpenAIError, TimeoutError, ValueError, TypeError, AttributeError) as error:
            if not ended:
                raise translated(upstream.name, error) from error
        finally:
            if stream is not None:
                await stream.close()
        if not ended:
            raise Interrupted(f"{upstream.name}: the stream ended without a reason", reason="UPSTREAM_BROKE_OFF")

    def _pause_s(self, attempt: int) -> float:
        """Somewhere below a bound that doubles: those who failed together do not come back together."""
        bound_s = min(_BACKOFF_S_MAX, self._upstream.backoff_s * 2 ** (attempt - 1))
        return random.uniform(0.0, bound_s)  # noqa: S311 - no secret


async def _spoken(
    chunks: AsyncGenerator[Chunk, None], upstream: Upstream, request: Request, *, queue_s: float
) -> AsyncGenerator[Event, None]:
    """What the chunks say: whole characters only, and the end with what is known of it."""
    surrogates = Surrogates()
    logprobs: list[TokenLogprob] = []
    model, usage, reason = upstream.model, None, None
    chars, chars_max = 0, (request.tokens_max or upstream.tokens_default) * _CHARS_A_TOKEN_MAX
    async for chunk in chunks:
        model, usage, reason = chunk.model or model, chunk.usage or usage, chunk.reason or reason
        logprobs += chunk.logprobs
        if text := surrogates.add(chunk.text):
            chars += len(text)
            if chars > chars_max:
                raise broken(upstream.name, f"more than {chars_max} characters, beyond any bound on tokens")
            yield Delta(text=text, logprobs=tuple(logprobs))
            logprobs.clear()
    if text := surrogates.end():
        chars += len(text)
        yield Delta(text=text, logprobs=tuple(logprobs))
    if not chars or reason is None:
        raise DependencyUnavailable(f"{upstream.name}: it said nothing ({reason})", reason="UPSTREAM_SAID_NOTHING")
    yield Finished(reason=reason, model=model, queue_s=queue_s, usage=usage, seed=seed(request))


def _estimate(text: str) -> int:
    return math.ceil(len(text.encode()) / _BYTES_A_TOKEN)
