"""What each generator of a chain is asked for one answer."""

import secrets
from collections.abc import Sequence
from dataclasses import replace

from gannet_gateway.answers.prompt import build, estimated_tokens
from gannet_gateway.answers.question import Question
from gannet_gateway.clients import Generation, Generator, GeneratorModel
from gannet_gateway.config import GatewayConfig
from gannet_gateway.search.query import Passage

FENCE_BYTES = 8
# Room for an answer whose length nobody bounds.
ANSWER_TOKENS = 512


class Writing:
    """One question, made to stand alone, and its passages."""

    def __init__(
        self,
        question: Question,
        standalone: str,
        passages: Sequence[Passage],
        generator: Generator,
        config: GatewayConfig,
    ) -> None:
        self.sources = [(passage.candidate.title, passage.candidate.text) for passage in passages]
        self._question = question
        self._standalone = standalone
        self._generator = generator
        self._prompt_tokens_max = config.prompt_tokens_max

    async def ask(self, model: GeneratorModel) -> Generation:
        """What `model` is asked; one that quotes gets the passages as they are, one that writes freely a prompt that it has room for.

        Raises:
            InvalidInput: reason PROMPT_TOO_LONG, it has no room for the best passage.
            GannetError: the generator does not count tokens.
        """
        question = self._question
        generation = Generation(
            generator=model.name,
            question=self._standalone,
            sources=self.sources,
            sentences_max=question.sentences_max,
            sampling=question.sampling,
        )
        if not model.free_text:
            return generation
        sampling = question.sampling
        if model.tokens_max and sampling.max_tokens > model.tokens_max:
            sampling = replace(sampling, max_tokens=model.tokens_max)
        budget = self._prompt_tokens_max
        if model.context_tokens_max:
            budget = min(budget, model.context_tokens_max - (sampling.max_tokens or ANSWER_TOKENS))
        prompt = build(
            question.template,
            question=self._standalone,
            passages=self.sources,
            tokens=await self._tokens(model, budget),
            budget_tokens=budget,
            fence=secrets.token_hex(FENCE_BYTES),
            history=question.history,
            language=question.language,
        )
        return replace(generation, messages=prompt.messages, sampling=sampling)

    async def _tokens(self, model: GeneratorModel, budget: int) -> list[int]:
        """Tokens of each passage: counted by the generator only where an estimate leaves it open whether all fit."""
        texts = [text for _, text in self.sources]
        estimates = [estimated_tokens(text) for text in texts]
        if sum(estimates) * 2 <= budget:
            return estimates
        return await self._generator.count_tokens(model.name, texts)
