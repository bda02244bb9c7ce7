"""A quoted answer from the first to the last event: find the sentences, score them on the model's threads, say the best."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from gannet_generator.extractive.extract import Candidate, choose, find_candidates, in_context, nearest, write
from gannet_generator.generation import Description, Event, Finished, Message, Reading, Request, TokenCounts
from gannet_generator.scoring import PairScorer
from gannet_inference.encoder import CrossEncoder
from gannet_inference.tokens import TokenIds


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


class ExtractiveGenerator:
    """Says the sentences that answer, and is silent where none does."""

    def __init__(self, scorer: PairScorer, policy: Policy) -> None:
        """Scores with `scorer`, which others may use too."""
        self._scorer = scorer
        self._policy = policy
        built = scorer.built
        self.description = Description(
            kind="extractive",
            model=built.name,
            model_digest=built.digest,
            precision=built.precision,
            threshold=policy.threshold,
        )

    async def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        """Answer from the sources; closing the iterator drops what has not started.

        Raises:
            Overloaded: the sentences do not fit into the queue.
            DeadlineTooShort: they would be scored too late.
            ModelFailure: the model failed on a sentence.
        """
        candidates, tokens = await self._scorer.prepare(lambda encoder: self._prepare(encoder, request))
        scores = await self._scorer.score(tokens)
        policy = self._policy
        choice = choose(
            candidates,
            scores.logits,
            threshold=policy.threshold,
            margin=policy.margin,
            sentences_max=request.sentences_max,
        )
        for event in write(choice.quotes):
            yield event
        spoken = "length" if choice.limited else "stop"
        yield Finished(
            reason=spoken if choice.quotes else "no_answer",
            model=self.description.model,
            queue_s=scores.queue_s,
            reading=Reading(
                best_logit=max(scores.logits, default=0.0), sentences=len(scores.logits), tokens=scores.tokens
            ),
        )

    async def count_tokens(self, messages: Sequence[Message], texts: Sequence[str]) -> TokenCounts:
        """In tokens of the cross-encoder; it has no prompt, so messages are the sum of their contents.

        Raises:
            Overloaded: too many requests wait.
        """
        contents = [message.content for message in messages]

        def count(encoder: CrossEncoder) -> list[int]:
            return [len(pieces.tokens) for pieces in encoder.pieces([*contents, *texts], special=False)]

        counts = await self._scorer.prepare(count)
        return TokenCounts(prompt=sum(counts[: len(contents)]), texts=counts[len(contents) :], exact=True)

    async def close(self) -> None:
        """Nothing: the scorer is closed by whoever opened it."""

    def _prepare(self, encoder: CrossEncoder, request: Request) -> tuple[list[Candidate], list[TokenIds]]:
        policy = self._policy
        found = find_candidates(request.sources, sentence_bytes_max=policy.sentence_bytes_max)
        candidates = nearest(request.question, found, policy.sentences_scored_max)
        contexts = [in_context(candidate, request.sources) for candidate in candidates]
        return candidates, encoder.tokenize(request.question, contexts)
