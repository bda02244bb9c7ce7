"""Verifies any text, sentence by sentence: against passages that are given, or against what a search for each sentence finds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gannet_gateway.answers.attribution import supporting
from gannet_gateway.answers.events import Source
from gannet_gateway.answers.sentences import Sentence
from gannet_gateway.clients import Generator, Verdict
from gannet_gateway.config import GatewayConfig
from gannet_gateway.ledger.records import Collection
from gannet_gateway.search.query import Passage, Query
from gannet_gateway.search.search import Searcher


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A sentence, how likely it is that the passages support it, and the spans that do."""

    sentence: Sentence
    score: float
    supported: bool
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """Claims in order, the passages that were found for them, each once, and the tokens that it took."""

    claims: tuple[Claim, ...]
    passages: tuple[Passage, ...]
    tokens_read: int


class Verifier:
    """Asks the generator's server, which has the cross-encoder."""

    def __init__(self, searcher: Searcher, generator: Generator, config: GatewayConfig) -> None:
        self._searcher = searcher
        self._generator = generator
        self._timeout_s = config.verify_timeout_s

    async def against(self, sentences: Sequence[Sentence], passages: Sequence[str]) -> Verified:
        """Verify `sentences` against all `passages`; bytes of sources count in these."""
        known = await self._generator.generators()
        claims: list[Claim] = []
        tokens_read = 0
        for at in range(0, len(sentences), known.claims_max):
            batch = sentences[at : at + known.claims_max]
            verdicts, tokens = await self._verify(batch, [("", passage) for passage in passages])
            tokens_read += tokens
            for sentence, verdict in zip(batch, verdicts, strict=True):
                spans = supporting(verdict, set(), known.verify_threshold)
                sources = tuple(Source(passage_index=place, start_byte=a, end_byte=b) for place, a, b in spans)
                claims.append(_claim(sentence, verdict, sources))
        return Verified(claims=tuple(claims), passages=(), tokens_read=tokens_read)

    async def by_search(self, sentences: Sequence[Sentence], collection: Collection, query: Query) -> Verified:
        """Verify each of `sentences` against what `query` with its text finds; bytes of sources count in the documents.

        One after the other: the texts are short, and a check of one answer must not crowd out the searches of others.
        """
        threshold = (await self._generator.generators()).verify_threshold
        claims: list[Claim] = []
        passages: dict[tuple[str, int, int], tuple[int, Passage]] = {}
        tokens_read = 0
        for sentence in sentences:
            found = (await self._searcher.search(collection, replace(query, text=sentence.text))).passages
            if not found:
                claims.append(Claim(sentence=sentence, score=0.0, supported=False, sources=()))
                continue
            (verdict,), tokens = await self._verify(
                [sentence], [(one.candidate.title, one.candidate.text) for one in found]
            )
            tokens_read += tokens
            for one in found:
                passages.setdefault(_identity(one), (len(passages), one))
            sources = tuple(
                Source(
                    passage_index=passages[_identity(found[place])][0],
                    start_byte=found[place].candidate.start_byte + start,
                    end_byte=found[place].candidate.start_byte + end,
                )
                for place, start, end in supporting(verdict, set(), threshold)
            )
            claims.append(_claim(sentence, verdict, sources))
        return Verified(
            claims=tuple(claims), passages=tuple(one for _, one in passages.values()), tokens_read=tokens_read
        )

    async def _verify(
        self, sentences: Sequence[Sentence], sources: Sequence[tuple[str, str]]
    ) -> tuple[list[Verdict], int]:
        claims = [sentence.text for sentence in sentences]
        return await self._generator.verify(claims, sources, timeout_s=self._timeout_s)


def _claim(sentence: Sentence, verdict: Verdict, sources: tuple[Source, ...]) -> Claim:
    return Claim(sentence=sentence, score=verdict.score, supported=verdict.supported, sources=sources)


def _identity(passage: Passage) -> tuple[str, int, int]:
    candidate = passage.candidate
    return str(candidate.document), candidate.revision, candidate.ordinal
