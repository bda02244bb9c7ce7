"""An answer from the first to the last event: find the sentences, score them on the model's threads, say the best.

Whoever leaves takes the sentences that have not been scored along.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from functools import partial

from gannet_generator.extract import Candidate, Citation, Delta, Source, choose, find_candidates, in_context, write
from gannet_inference.encoder import CrossEncoder
from gannet_inference.errors import QueueFull
from gannet_inference.lanes import PriorityExecutor
from gannet_inference.tokens import TokenIds
from gannet_service.errors import Overloaded


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What may be said.

    Attributes:
        threshold: least logit of a sentence that is said.
        margin: how far below the best sentence another may be, in logits.
        sentence_bytes_max: where a sentence is cut.
        sentences_scored_max: sentences that the model reads for one answer.
    """

    threshold: float
    margin: float
    sentence_bytes_max: int
    sentences_scored_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The end of an answer.

    Attributes:
        answered: something was said.
        limited: more could have been said than was asked for.
        best_logit: of the best sentence, said or not; 0 where there was none.
        sentences_scored: sentences that the model read.
        tokens_read: tokens that the model read.
    """

    answered: bool
    limited: bool
    best_logit: float
    sentences_scored: int
    tokens_read: int


class ExtractiveGenerator:
    """The model, and the one thread that splits and tokenises for it."""

    def __init__(self, encoder: CrossEncoder, policy: Policy, *, queue_requests_max: int) -> None:
        """Takes over the encoder.

        Args:
            encoder: the model that scores sentences.
            policy: what may be said.
            queue_requests_max: requests that may wait to be split into sentences.
        """
        self._encoder = encoder
        self._policy = policy
        # One thread: splitting and tokenising take a twentieth of the model's time.
        self._preparing = PriorityExecutor(name="prepare", threads=1, queue_max=queue_requests_max)

    async def answer(
        self, question: str, sources: Sequence[Source], sentences_max: int
    ) -> AsyncGenerator[Delta | Citation | Finished, None]:
        """Answer from the sources, best first; `Finished` comes last. Closing the iterator drops what has not started.

        Raises:
            Overloaded: the sentences do not fit into the queue.
            ModelFailure: the model failed on a sentence.
        """
        try:
            preparing = self._preparing.submit(partial(self._prepare, question, sources))
            candidates, tokens = await asyncio.wrap_future(preparing)
            logits = await self._score(tokens)
        except QueueFull as error:
            raise Overloaded(str(error), retry_after_s=error.retry_after_s) from error
        policy = self._policy
        choice = choose(
            candidates, logits, threshold=policy.threshold, margin=policy.margin, sentences_max=sentences_max
        )
        for event in write(choice.quotes):
            yield event
        yield Finished(
            answered=bool(choice.quotes),
            limited=choice.limited,
            best_logit=max(logits, default=0.0),
            sentences_scored=len(logits),
            tokens_read=sum(ids.count for ids in tokens),
        )

    def close(self) -> None:
        """Drop what waits and let what runs finish."""
        self._preparing.close()
        self._encoder.close()

    def _prepare(self, question: str, sources: Sequence[Source]) -> tuple[list[Candidate], list[TokenIds]]:
        candidates = find_candidates(
            question,
            sources,
            sentence_bytes_max=self._policy.sentence_bytes_max,
            sentences_scored_max=self._policy.sentences_scored_max,
        )
        return candidates, self._encoder.tokenize(
            question, [in_context(candidate, sources) for candidate in candidates]
        )

    async def _score(self, tokens: Sequence[TokenIds]) -> list[float]:
        works = self._encoder.submit_all(tokens)
        try:
            return await asyncio.gather(*map(asyncio.wrap_future, works))
        finally:
            # After a failure nobody reads the other scores.
            for work in works:
                work.cancel()
