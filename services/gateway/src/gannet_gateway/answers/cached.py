"""Whole answers, kept under everything that they depend on, so that a stale one is never asked for.

Kept is what is complete, went well and would come out the same again: no warning, no conversation, and from generators that name their
model's digest and quote, or are told to take the likeliest token or which seed to use.
"""

import time
from collections.abc import AsyncGenerator

from gannet_gateway.answers import wire
from gannet_gateway.answers.question import Question
from gannet_gateway.answers.wire import Message
from gannet_gateway.cache.keys import cache_key, cache_window, result_key
from gannet_gateway.cache.tiers import TieredCache
from gannet_gateway.clients import Generator, GeneratorModel, Sampling
from gannet_gateway.owner import identity
from gannet_gateway.search.clients import Reranker
from gannet_service.errors import GannetError

ANSWER_BYTES_MAX = 1 << 20


class AnswerCache:
    """Replays an answer that was made before, or remembers the one that is made."""

    def __init__(self, cache: TieredCache, generator: Generator, reranker: Reranker) -> None:
        self._cache = cache
        self._generator = generator
        self._reranker = reranker

    async def through(self, question: Question, making: AsyncGenerator[Message]) -> AsyncGenerator[Message]:
        """The events of an answer to `question`; `making` is begun only where none is kept, and always closed."""
        started = time.perf_counter()
        try:
            key = await self._key(question)
            recorded = await self._cache.get(key) if key is not None else None
            if recorded is not None:
                for message in wire.replayed(recorded, question.answer_id, started):
                    yield message
                return
            recording = wire.Recording(bytes_max=ANSWER_BYTES_MAX)
            async for message in making:
                recording.add(message)
                if key is not None and recording.is_whole:
                    # Before the last event: who has read it may count on it.
                    await self._cache.put(key, recording.packed())
                yield message
        finally:
            await making.aclose()

    async def _key(self, question: Question) -> bytes | None:
        """Everything that the answer depends on; None where it is not to be kept, or nobody can say what would make it."""
        if question.conversation is not None or question.collection.cache_results is False:
            return None
        try:
            known = await self._generator.generators()
            models = [known.by_name.get(name) for name in question.generators]
            rerankers = [await self._reranker.model_digest()] if question.query.rerank else []
            # Which of them phrases the query is a matter of what is in service.
            writers = [repr(sorted(known.by_name.items()))] if question.query.multi_query else []
        except GannetError:
            return None
        if not all(model is not None and _repeats(model, question.sampling) for model in models):
            return None
        template = question.template
        return cache_key(
            "answer1",
            result_key(
                question.collection, question.query, *rerankers, *writers, window=cache_window(question.collection)
            ),
            identity(),
            repr(models),
            known.verify_digest,
            known.verify_threshold,
            template.system,
            template.user,
            repr(question.sampling),
            question.sentences_max,
            question.language,
        )


def _repeats(model: GeneratorModel, sampling: Sampling) -> bool:
    """Whether it would write the same again."""
    fixed = not model.free_text or sampling.temperature == 0 or sampling.seed is not None
    return fixed and bool(model.digest)
