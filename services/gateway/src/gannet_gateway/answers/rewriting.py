"""Makes the questions of a conversation stand alone, with a model where there is one."""

import asyncio
from contextlib import aclosing

from gannet_gateway.answers.events import Model
from gannet_gateway.answers.question import Question
from gannet_gateway.answers.standalone import REWRITE_TOKENS_MAX, refers_back, rewriting, rewritten, with_terms
from gannet_gateway.clients import Generation, Generator, GeneratorModel, Said, Sampling
from gannet_gateway.search.query import Degradation
from gannet_service import call
from gannet_service.errors import GannetError


class Rewriter:
    """Asks the first of a question's generators that writes freely, for `timeout_s` at most; without one, a rule decides."""

    def __init__(self, generator: Generator, *, timeout_s: float) -> None:
        self._generator = generator
        self._timeout_s = timeout_s

    async def standalone(self, question: Question) -> tuple[str, tuple[Degradation, ...]]:
        """The question as it is searched for, and what went less well on the way."""
        text = question.query.text
        if not question.turns or not refers_back(text):
            return text, ()
        by_rule = with_terms(text, [turn.question for turn in question.turns])
        try:
            models = await self._models(question)
            writer = next((model for model in models if model.free_text), None)
            if writer is None:
                return by_rule, ()
            reply = await self._reply(writer, question)
        except GannetError as error:
            return by_rule, (Degradation(stage="rewrite", reason=error.reason),)
        except TimeoutError:
            return by_rule, (Degradation(stage="rewrite", reason="DEADLINE"),)
        return rewritten(reply, text) or by_rule, ()

    async def models(self, question: Question) -> tuple[Model, ...]:
        """What may take part in an answer; the generators are left out where their server does not say."""
        collection = question.collection
        embedder = Model(role="embedder", model=collection.embedding_model, digest=collection.embedding_model_digest)
        try:
            generators = await self._models(question)
        except GannetError:
            return (embedder,)
        return (
            embedder,
            *(Model(role=f"generator/{one.name}", model=one.model, digest=one.digest) for one in generators),
        )

    async def _models(self, question: Question) -> list[GeneratorModel]:
        known = (await self._generator.generators()).by_name
        return [known[name] for name in question.generators if name in known]

    async def _reply(self, writer: GeneratorModel, question: Question) -> str:
        asked = Generation(
            generator=writer.name,
            question="",
            sources=(),
            messages=rewriting(question.query.text, question.history),
            sampling=Sampling(temperature=0.0, max_tokens=REWRITE_TOKENS_MAX),
        )
        async with (
            asyncio.timeout(call.remaining_s(self._timeout_s)),
            aclosing(self._generator.generate(asked)) as pieces,
        ):
            return "".join([piece.text async for piece in pieces if isinstance(piece, Said)])
