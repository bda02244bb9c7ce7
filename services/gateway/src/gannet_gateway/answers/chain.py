"""Several generators for one answer: the next takes over while nothing has been said; one that keeps failing is left out for a while."""

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from typing import TypeVar

from gannet_gateway.answers.markers import MarkedText
from gannet_gateway.answers.pieces import NO_ANSWER, Ended, Piece, Skipped
from gannet_gateway.cache.breaker import Breaker
from gannet_gateway.clients import Cited, Done, Generation, Generator, GeneratorModel, Said
from gannet_service import call
from gannet_service.errors import DependencyUnavailable, GannetError, InvalidInput, NotFound

# What a generator may take of the time left before its first word, if another one waits behind it.
FIRST_WORD_SHARE = 0.5


T = TypeVar("T")
Ask = Callable[[GeneratorModel], Awaitable[Generation]]


class GeneratorChain:
    """Tries generators in order. A breaker a generator: `failures_max` in a row, then `pause_s` without it."""

    def __init__(self, generator: Generator, *, failures_max: int, pause_s: float) -> None:
        self._generator = generator
        self._failures_max = failures_max
        self._pause_s = pause_s
        self._breakers: dict[str, Breaker] = {}

    async def generate(self, names: Sequence[str], ask: Ask, *, source_count: int) -> AsyncGenerator[Piece]:
        """One answer by the first of `names` that gives one.

        Args:
            names: generators in order, at least one; "" is the server's first.
            ask: what to ask a generator, made when its turn has come.
            source_count: how many sources there are.

        Raises:
            GannetError: the last one failed, or one did after its first word: what was said stands.
        """
        known = (await self._generator.generators()).by_name
        for place, name in enumerate(names):
            model, is_last = known.get(name), place == len(names) - 1
            spoken = False
            try:
                if model is None:
                    raise NotFound(f"there is no generator {name[:100]!r}", field="generation.generators")
                async with aclosing(self._attempt(model, ask, source_count, hurried=not is_last)) as pieces:
                    async for piece in pieces:
                        spoken = True
                        yield piece
                return
            except GannetError as error:
                call.remaining_s(math.inf)  # a caller who is out of time has no use for another one
                if spoken or is_last:
                    raise
                yield Skipped(generator=name, reason=error.reason)

    async def _attempt(
        self, model: GeneratorModel, ask: Ask, source_count: int, *, hurried: bool
    ) -> AsyncGenerator[Said | Cited | Ended]:
        """One generator's answer; its breaker learns how it went."""
        breaker = self._breakers.setdefault(model.name, Breaker(failures_max=self._failures_max, open_s=self._pause_s))
        if not breaker.allows():
            problem = f"generator {model.name!r} failed {self._failures_max} times in a row"
            raise DependencyUnavailable(problem, reason="BREAKER_OPEN", retry_after_s=self._pause_s)
        try:
            generation = await ask(model)
            async with AsyncExitStack() as opened:
                raw = await opened.enter_async_context(aclosing(self._generator.generate(generation)))
                timely = await opened.enter_async_context(aclosing(_first_word_within(raw, hurried=hurried)))
                clean = _unmarked(timely, source_count) if model.free_text else _quoted(timely)
                async for piece in await opened.enter_async_context(aclosing(clean)):
                    yield piece
        except (InvalidInput, NotFound):
            breaker.succeeded()  # it answered: the question was not for it
            raise
        except GannetError:
            breaker.failed()
            raise
        breaker.succeeded()


async def _first_word_within(pieces: AsyncGenerator[T], *, hurried: bool) -> AsyncGenerator[T]:
    """`pieces`; `hurried`, the first one has to come within its share of the time left."""
    limit_s = call.remaining_s(math.inf) * FIRST_WORD_SHARE if hurried else math.inf
    try:
        async with asyncio.timeout(None if limit_s == math.inf else limit_s):
            first = await anext(pieces, None)
    except TimeoutError as error:
        raise DependencyUnavailable(f"generator: no word within {limit_s:.2f} s", reason="STAGE_TIMEOUT") from error
    if first is not None:
        yield first
        async for piece in pieces:
            yield piece


async def _quoted(pieces: AsyncGenerator[Said | Cited | Done]) -> AsyncGenerator[Said | Cited | Ended]:
    """A quoting generator's pieces as they are."""
    done: Done | None = None
    async for piece in pieces:
        if isinstance(piece, Done):
            done = piece
        else:
            yield piece
    yield Ended(done=_last_word(done), marked=None)


async def _unmarked(
    pieces: AsyncGenerator[Said | Cited | Done], source_count: int
) -> AsyncGenerator[Said | Cited | Ended]:
    """A free text without its marks; one that declines to answer, or says nothing, is no answer."""
    marked, done, spoken = MarkedText(source_count), None, False
    async for piece in pieces:
        if isinstance(piece, Done):
            done = piece
        elif isinstance(piece, Said) and (text := marked.feed(piece.text)):
            spoken = True
            yield Said(text=text)
    if rest := marked.finish():
        spoken = True
        yield Said(text=rest)
    done = _last_word(done)
    yield Ended(done=done if spoken else replace(done, reason=NO_ANSWER), marked=marked)


def _last_word(done: Done | None) -> Done:
    if done is None:
        raise DependencyUnavailable("generator: no last word", reason="GENERATOR_BROKEN")
    return done
