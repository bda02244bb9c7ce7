"""The cross-encoder and the one thread that prepares texts for it, shared by the generator that quotes and by verification."""

import asyncio
import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from gannet_inference.encoder import CrossEncoder
from gannet_inference.errors import DeadlineHopeless, QueueFull
from gannet_inference.lanes import PriorityExecutor
from gannet_inference.store import BuiltModel
from gannet_inference.tokens import TokenIds
from gannet_service import call
from gannet_service.errors import DeadlineTooShort, Overloaded

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """One logit a pair, in order; the longest that one waited; the tokens of all of them."""

    logits: Sequence[float]
    queue_s: float
    tokens: int


class PairScorer:
    """Scores pairs of texts. Whoever leaves takes the pairs that have not been scored along."""

    def __init__(self, encoder: CrossEncoder, *, queue_requests_max: int) -> None:
        """Takes over the encoder.

        Args:
            encoder: the model.
            queue_requests_max: requests that may wait to be prepared.
        """
        self._encoder = encoder
        # One thread: splitting and tokenising take a twentieth of the model's time.
        self._preparing = PriorityExecutor(name="prepare", threads=1, queue_max=queue_requests_max)

    @property
    def built(self) -> BuiltModel:
        """What the model is."""
        return self._encoder.built

    @property
    def waiting(self) -> int:
        """How many pairs wait for the model."""
        return self._encoder.waiting

    async def prepare(self, function: Callable[[CrossEncoder], R]) -> R:
        """Run `function` on the preparing thread; the encoder is for tokenising.

        Raises:
            Overloaded: too many requests wait.
        """
        with _refusals():
            work = self._preparing.submit(lambda: function(self._encoder))
        return await asyncio.wrap_future(work)

    async def score(self, pairs: Sequence[TokenIds]) -> Scores:
        """Score all of the pairs or none.

        Raises:
            Overloaded: they do not fit into the queue.
            DeadlineTooShort: by the measured rate they would end after the caller's deadline; nothing more is begun.
            ModelFailure: the model failed on a pair.
        """
        with _refusals():
            works = self._encoder.run_all(self._encoder.score, pairs, deadline_s=call.deadline_s())
        try:
            with _refusals():
                logits = await asyncio.gather(*map(asyncio.wrap_future, works))
        finally:
            # After a failure nobody reads the other scores.
            for work in works:
                work.cancel()
        queue_s = max((work.queued_s for work in works), default=0.0)
        return Scores(logits=logits, queue_s=queue_s, tokens=sum(tokens.count for tokens in pairs))

    def close(self) -> None:
        """Drop what waits and let what runs finish."""
        self._preparing.close()
        self._encoder.close()


@contextlib.contextmanager
def _refusals() -> Generator[None]:
    """Says a queue's refusal in the words of the contract."""
    try:
        yield
    except QueueFull as error:
        raise Overloaded(str(error), retry_after_s=error.retry_after_s) from error
    except DeadlineHopeless as error:
        raise DeadlineTooShort(f"not begun: it {error}", reason="DEADLINE_HOPELESS") from error
