"""Passages ranked against a query: pairs are tokenised on one thread, scored on the model's, and sorted.

A passage that one pair does not hold is read in overlapping windows and scores what its best window scores. Whoever leaves takes
the windows that have not started along.
"""

import asyncio
import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TypeVar

from gannet_inference.encoder import CrossEncoder
from gannet_inference.errors import DeadlineHopeless, QueueFull
from gannet_inference.lanes import PriorityExecutor, Work
from gannet_inference.manifest import Purpose
from gannet_inference.store import BuiltModel
from gannet_inference.tokens import Side, TextPieces, TokenIds
from gannet_service.errors import DeadlineTooShort, GannetError, InvalidInput, Overloaded

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """What one call wants ranked.

    Attributes:
        query: read whole with every window.
        passages: the texts, each within the limits.
        windows_max: windows of one passage, >= 1.
        side: which side a passage loses when there is one window.
        refuse_long: rather refuse the call than leave a part of a passage unread.
        deadline_s: the `time.monotonic()` instant at which the caller stops waiting; None for no such instant.
    """

    query: str
    passages: Sequence[str]
    windows_max: int
    side: Side = "end"
    refuse_long: bool = False
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """One passage: its place in the request, its best window's logit, how many were read, and whether a part was not."""

    index: int
    logit: float
    windows: int
    truncated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """The passages by falling logit, what was read, and where the time went."""

    results: Sequence[Ranked]
    token_count: int
    queue_s: float
    tokenize_s: float
    inference_s: float


class PassageRanker:
    """One model, and the one thread that tokenises for it."""

    def __init__(self, encoder: CrossEncoder, *, queue_requests_max: int) -> None:
        """Takes over the encoder.

        Args:
            encoder: the model.
            queue_requests_max: requests that may wait to be tokenised.
        """
        self._encoder = encoder
        # One thread: tokenising a pair takes a hundredth of the model's time.
        self._tokenizing = PriorityExecutor(name="tokenize", threads=1, queue_max=queue_requests_max)

    @property
    def built(self) -> BuiltModel:
        """What the model is."""
        return self._encoder.built

    @property
    def execution_provider(self) -> str:
        """Where the model runs, ONNX Runtime's name."""
        return self._encoder.execution_provider

    def check_room(self, deadline_s: float | None) -> None:
        """Refuses, at next to no cost, what `rank` would refuse however short the passages.

        Raises:
            Overloaded: no place is left, or what waits in front takes too much of the time until the deadline.
        """
        try:
            self._encoder.check_room(deadline_s=deadline_s)
        except (QueueFull, DeadlineHopeless) as error:
            raise _refusal(error) from error

    async def rank(self, candidates: Candidates) -> Ranking:
        """Score every passage and sort; equal scores keep their order. Cancelling drops what has not started.

        Raises:
            Overloaded: the windows do not fit into the queue, or the queue is too long for the deadline.
            DeadlineTooShort: by the measured rate, the last window would come after the deadline; nothing more is begun.
            InvalidInput: a passage is too long for the model, and the call says to refuse that.
            ModelFailure: the model failed on a pair.
        """
        # Before the pairs are tokenised: messages of a stream come straight here.
        self.check_room(candidates.deadline_s)
        tokenizing = self._submit(partial(self._tokenize, candidates))
        passages = await asyncio.wrap_future(tokenizing)
        if candidates.refuse_long and any(windows[-1].truncated for windows in passages):
            raise InvalidInput(f"longer than {self.built.tokens_max} tokens", reason="TEXT_TOO_LONG")
        windows = list(chain.from_iterable(passages))
        with _refusals():
            works = self._encoder.run_all(self._encoder.score, windows, deadline_s=candidates.deadline_s)
        try:
            with _refusals():
                logits = iter(await asyncio.gather(*map(asyncio.wrap_future, works)))
        finally:
            # After an error nobody reads the other scores.
            for work in works:
                work.cancel()
        results = [
            Ranked(
                index=index,
                logit=max(next(logits) for _ in read),
                windows=len(read),
                truncated=read[-1].truncated,
            )
            for index, read in enumerate(passages)
        ]
        return Ranking(
            results=sorted(results, key=lambda ranked: -ranked.logit),
            token_count=sum(window.count for window in windows),
            queue_s=max(work.queued_s for work in works),
            tokenize_s=tokenizing.ran_s,
            inference_s=sum(work.ran_s for work in works),
        )

    async def tokenize(self, text: str, purpose: Purpose | None, *, special: bool) -> TextPieces:
        """The tokens of a text, uncut, behind the prompt for a purpose; `special` adds the model's special tokens.

        Raises:
            Overloaded: the text does not fit into the queue.
        """
        work = self._submit(partial(self._encoder.pieces, [text], purpose=purpose, special=special))
        (pieces,) = await asyncio.wrap_future(work)
        return pieces

    async def decode(self, ids: Sequence[int], *, skip_special: bool) -> str:
        """The text that token ids stand for; errors as `tokenize`."""
        work = self._submit(partial(self._encoder.decode, ids, skip_special=skip_special))
        return await asyncio.wrap_future(work)

    def close(self) -> None:
        """Drop what waits and let what runs finish."""
        self._tokenizing.close()
        self._encoder.close()

    def _tokenize(self, candidates: Candidates) -> Sequence[Sequence[TokenIds]]:
        query, passages = candidates.query, candidates.passages
        if candidates.windows_max == 1:
            return [[tokens] for tokens in self._encoder.tokenize(query, passages, candidates.side)]
        return self._encoder.tokenize_windows(query, passages, candidates.windows_max)

    def _submit(self, function: Callable[[], R]) -> Work[R]:
        with _refusals():
            return self._tokenizing.submit(function)


@contextlib.contextmanager
def _refusals() -> Generator[None]:
    """Says a queue's refusal in the words of the contract."""
    try:
        yield
    except (QueueFull, DeadlineHopeless) as error:
        raise _refusal(error) from error


def _refusal(error: QueueFull | DeadlineHopeless) -> GannetError:
    if isinstance(error, QueueFull):
        return Overloaded(str(error), retry_after_s=error.retry_after_s)
    return DeadlineTooShort(f"not begun: it {error}", reason="DEADLINE_HOPELESS")
