"""Passages ranked against a query: pairs are tokenised on one thread, scored on the model's, and sorted.

Whoever leaves takes the pairs that have not started along.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from gannet_inference.encoder import CrossEncoder
from gannet_inference.errors import QueueFull
from gannet_inference.lanes import PriorityExecutor
from gannet_inference.tokens import TokenIds
from gannet_service.errors import Overloaded


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """One passage: its place in the request, its logit, and whether its end was not read."""

    index: int
    logit: float
    truncated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """The passages by falling logit, and where the time went."""

    results: Sequence[Ranked]
    queue_s: float
    tokenize_s: float
    inference_s: float


class PassageRanker:
    """The model, and the one thread that tokenises for it."""

    def __init__(self, encoder: CrossEncoder, *, queue_requests_max: int) -> None:
        """Takes over the encoder.

        Args:
            encoder: the model.
            queue_requests_max: requests that may wait to be tokenised.
        """
        self._encoder = encoder
        # One thread: tokenising a pair takes a hundredth of the model's time.
        self._tokenizing = PriorityExecutor(name="tokenize", threads=1, queue_max=queue_requests_max)

    async def rank(self, query: str, passages: Sequence[str]) -> Ranking:
        """Score every passage and sort; equal scores keep their order. Cancelling drops what has not started.

        Raises:
            Overloaded: the passages do not fit into the queue.
            ModelFailure: the model failed on a pair.
        """
        try:
            tokenizing = self._tokenizing.submit(partial(self._encoder.tokenize, query, passages))
            tokens: Sequence[TokenIds] = await asyncio.wrap_future(tokenizing)
            works = self._encoder.submit_all(tokens)
        except QueueFull as error:
            raise Overloaded(str(error), retry_after_s=error.retry_after_s) from error
        try:
            logits = await asyncio.gather(*map(asyncio.wrap_future, works))
        finally:
            # After a failure nobody reads the other scores.
            for work in works:
                work.cancel()
        results = [
            Ranked(index=index, logit=logit, truncated=ids.truncated)
            for index, (logit, ids) in enumerate(zip(logits, tokens, strict=True))
        ]
        return Ranking(
            results=sorted(results, key=lambda ranked: -ranked.logit),
            queue_s=max(work.queued_s for work in works),
            tokenize_s=tokenizing.ran_s,
            inference_s=sum(work.ran_s for work in works),
        )

    def close(self) -> None:
        """Drop what waits and let what runs finish."""
        self._tokenizing.close()
        self._encoder.close()
