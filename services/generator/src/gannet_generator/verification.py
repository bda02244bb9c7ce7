"""Whether sources support claims: each claim is scored against the sentences nearest to it, by the cross-encoder and by its words.

The cross-encoder was trained on questions, not on entailment: it tells what a sentence is about, and hardly notices a changed number or
a "not". So the score is a logistic function of three facts of a (claim, sentence) pair: the logit, the share of the claim's words that the
sentence has, and whether the two contradict each other: the claim has a number that the sentence lacks, or negates a word that the
sentence does not negate, or the other way round. Weights and threshold are chosen with
`make bench-verify`; what that is worth, and what it is blind to, stands in docs/quality.md.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from gannet_generator.extractive.extract import Candidate, find_candidates, in_context, nearest, stems
from gannet_generator.generation import Source, SourceSpan
from gannet_generator.scoring import PairScorer
from gannet_inference.encoder import CrossEncoder
from gannet_inference.tokens import TokenIds

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
# English, Croatian, German.
_NEGATIONS = frozenset(
    (
        *(
            "not",
            "no",
            "never",
            "neither",
            "nor",
            "without",
            "cannot",
            "nicht",
            "kein",
            "keine",
            "keinen",
            "nie",
            "ohne",
        ),
        *("ne", "nije", "nisam", "nisu", "nismo", "nema", "nemaju", "nikad", "nikada", "niti", "bez"),
    )
)
# Between a negation and the word that it is about.
_PASSED_OVER = frozenset(
    (
        *(
            "a",
            "an",
            "the",
            "any",
            "be",
            "been",
            "being",
            "is",
            "are",
            "was",
            "were",
            "has",
            "have",
            "had",
            "do",
            "does",
            "did",
        ),
        *("to", "of", "in", "at", "on", "by", "yet", "ever", "always", "very", "so", "such"),
    )
)
# "Not only" negates nothing.
_NEGATES_NOTHING = frozenset(("only", "just", "merely", "samo", "nur"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Of the facts of a pair in the logistic function: `bias + logit·l + overlap·o + contradiction·c`."""

    bias: float
    logit: float
    overlap: float
    contradiction: float


WEIGHTS = Weights(bias=-5.4, logit=0.27, overlap=7.7, contradiction=-6.7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """`sentence_bytes_max`: where a sentence is cut; `sentences_max`: sentences that the model reads for one claim."""

    sentence_bytes_max: int
    sentences_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredSpan:
    """A sentence of a source, and how likely it is to support the claim, 0 to 1."""

    span: SourceSpan
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The best span's score, 0 where there is none, whether it is enough, and the best spans, best first."""

    score: float
    supported: bool
    spans: tuple[ScoredSpan, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """A verdict for each claim, in order, and the tokens that the model read."""

    verdicts: Sequence[Verdict]
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A claim and a sentence that may support it; `sentence` is as the model reads it."""

    claim: str
    sentence: str
    spans: tuple[SourceSpan, ...]


class Verifier:
    """Verifies claims with the cross-encoder of the generator that quotes."""

    def __init__(self, scorer: PairScorer, *, weights: Weights, threshold: float, bounds: Bounds) -> None:
        """Scores with `scorer`, which others may use too."""
        self._scorer = scorer
        self._weights = weights
        self._bounds = bounds
        self.threshold = threshold
        self.built = scorer.built

    async def verify(self, claims: Sequence[str], sources: Sequence[Source], *, spans_max: int) -> Verification:
        """Score each claim against the sources; cancelling drops what has not started.

        Raises:
            Overloaded: the pairs do not fit into the queue.
            DeadlineTooShort: they would be scored too late.
            ModelFailure: the model failed on a pair.
        """
        pairs, tokens = await self._scorer.prepare(lambda encoder: self._prepare(encoder, claims, sources))
        scores = await self._scorer.score(tokens)
        logits = iter(scores.logits)
        verdicts = [
            self._verdict([(pair, next(logits)) for pair in of_claim], spans_max=spans_max) for of_claim in pairs
        ]
        return Verification(verdicts=verdicts, tokens=scores.tokens)

    def _prepare(
        self, encoder: CrossEncoder, claims: Sequence[str], sources: Sequence[Source]
    ) -> tuple[list[list[Pair]], list[TokenIds]]:
        pairs = find_pairs(claims, sources, self._bounds)
        tokens: list[TokenIds] = []
        for of_claim in pairs:
            if of_claim:
                tokens += encoder.tokenize(of_claim[0].claim, [pair.sentence for pair in of_claim])
        return pairs, tokens

    def _verdict(self, scored: Sequence[tuple[Pair, float]], *, spans_max: int) -> Verdict:
        ranked = sorted(
            (
                ScoredSpan(span=span, score=support(pair, logit, self._weights))
                for pair, logit in scored
                for span in pair.spans
            ),
            key=lambda one: -one.score,
        )
        best = ranked[0].score if ranked else 0.0
        return Verdict(score=best, supported=best >= self.threshold, spans=tuple(ranked[:spans_max]))


def find_pairs(claims: Sequence[str], sources: Sequence[Source], bounds: Bounds) -> list[list[Pair]]:
    """For each claim the sentences that the model is to read with it, in the order of the sources."""
    sentences = find_candidates(sources, sentence_bytes_max=bounds.sentence_bytes_max)
    return [
        [_pair(claim, sentence, sources) for sentence in nearest(claim, sentences, bounds.sentences_max)]
        for claim in claims
    ]


def _pair(claim: str, sentence: Candidate, sources: Sequence[Source]) -> Pair:
    return Pair(claim=claim, sentence=in_context(sentence, sources), spans=sentence.spans)


def support(pair: Pair, logit: float, weights: Weights) -> float:
    """How likely the sentence is to support the claim, 0 to 1, given the cross-encoder's logit."""
    overlap, contradiction = lexical_facts(pair)
    exponent = weights.bias + weights.logit * logit + weights.overlap * overlap + weights.contradiction * contradiction
    # Far out the chance is 0 or 1 in any float; exp would overflow.
    return 1.0 / (1.0 + math.exp(-max(-60.0, min(60.0, exponent))))


def lexical_facts(pair: Pair) -> tuple[float, float]:
    """The share of the claim's words that the sentence has, and 1.0 if the two contradict each other, else 0.0.

    They do if the claim has a number that the sentence lacks, or if a word that both have is negated in one of them alone.
    """
    claimed = stems(pair.claim)
    shared = claimed & stems(pair.sentence)
    overlap = len(shared) / len(claimed) if claimed else 0.0
    missing = set(_NUMBER.findall(pair.claim)) - set(_NUMBER.findall(pair.sentence))
    reversed_ = (_negated(pair.claim) ^ _negated(pair.sentence)) & shared
    return overlap, float(bool(missing or reversed_))


def _negated(text: str) -> set[str]:
    """The stems of the words that a negation is about: the next one behind it that means something."""
    negated: set[str] = set()
    words = iter(_WORD.findall(text.casefold()))
    for word in words:
        if word in _NEGATIONS or word.endswith(("n't", "n’t")):
            about = next((each for each in words if each not in _PASSED_OVER), "")
            if about not in _NEGATES_NOTHING:
                negated |= stems(about)
    return negated
