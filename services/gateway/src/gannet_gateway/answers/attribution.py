"""Which passages say what an answer says: every sentence that its generator did not cite is verified against them."""

from collections.abc import Sequence
from dataclasses import dataclass

from gannet_gateway.answers.markers import Mark
from gannet_gateway.answers.sentences import Sentence, split_sentences
from gannet_gateway.clients import Cited, Generator, Verdict

# More sentences than this are not verified; they count as unsupported.
SENTENCES_MAX = 100
# More than these say nothing new; a source that the model names is among them even if many others say the same a little better.
SPANS_MAX = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """Citations in the order of the text, the sentences that nothing supports, and the tokens that it took to tell."""

    cited: tuple[Cited, ...]
    unsupported: tuple[Sentence, ...]
    tokens_read: int


async def attribute(
    generator: Generator,
    text: str,
    sources: Sequence[tuple[str, str]],
    *,
    marks: Sequence[Mark] = (),
    covered: Sequence[tuple[int, int]] = (),
    timeout_s: float,
) -> Attribution:
    """Verify the sentences of `text`.

    Args:
        generator: who verifies.
        text: the answer.
        sources: (title, text) of the passages.
        marks: what the model itself named; where it is right, these sources come first.
        covered: byte spans that are cited already.
        timeout_s: most time.

    Raises:
        GannetError: the verifier does not answer.
    """
    open_sentences = [one for one in split_sentences(text) if not _is_covered(one, covered)]
    if not open_sentences or not sources:
        return Attribution(cited=(), unsupported=tuple(open_sentences), tokens_read=0)
    known = await generator.generators()
    cited: list[Cited] = []
    unsupported = open_sentences[SENTENCES_MAX:]
    tokens_read = 0
    verified = open_sentences[:SENTENCES_MAX]
    for at in range(0, len(verified), known.claims_max):
        batch = verified[at : at + known.claims_max]
        verdicts, tokens = await generator.verify([one.text for one in batch], sources, timeout_s=timeout_s)
        tokens_read += tokens
        for sentence, verdict in zip(batch, verdicts, strict=True):
            spans = supporting(verdict, _named(sentence, marks, verified), known.verify_threshold)
            if spans:
                found = Cited(
                    start_byte=sentence.start_byte, end_byte=sentence.end_byte, sources=spans, score=verdict.score
                )
                cited.append(found)
            else:
                unsupported.append(sentence)
    unsupported.sort(key=lambda one: one.start_byte)
    return Attribution(cited=tuple(cited), unsupported=tuple(unsupported), tokens_read=tokens_read)


def _is_covered(sentence: Sentence, covered: Sequence[tuple[int, int]]) -> bool:
    return any(start <= sentence.start_byte and sentence.end_byte <= end for start, end in covered)


def _named(sentence: Sentence, marks: Sequence[Mark], sentences: Sequence[Sentence]) -> set[int]:
    """The sources whose marks stand in the sentence, or behind it and before the next."""
    next_starts = min((one.start_byte for one in sentences if one.start_byte > sentence.start_byte), default=None)
    return {
        source
        for mark in marks
        if sentence.start_byte < mark.end_byte and (next_starts is None or mark.end_byte <= next_starts)
        for source in mark.sources
    }


def supporting(verdict: Verdict, named: set[int], threshold: float) -> tuple[tuple[int, int, int], ...]:
    """At most SPANS_MAX spans that support it, those of `named` sources first; else the best first."""
    spans = [span for span in verdict.spans if span[3] >= threshold]
    spans.sort(key=lambda span: (span[0] not in named, -span[3]))
    return tuple((source, start, end) for source, start, end, _ in spans[:SPANS_MAX])
