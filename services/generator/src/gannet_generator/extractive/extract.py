"""The extractive answer as pure functions: which sentences to score, which of them to say, and the answer as a stream of events."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gannet_generator.extractive.sentences import split_sentences
from gannet_generator.generation import Citation, Delta, Source, SourceSpan

SEPARATOR = " "
# Two sentences that share so much of their words say the same: chunks overlap, and documents repeat themselves.
_SAME_SHARE_MIN = 0.8
# A word's first letters stand for it when sentences are preselected: "indexing" meets "indexes".
_STEM_CHARS = 5
_WORD = re.compile(r"\w+")
_REFERS_BACK = re.compile(
    r"(?:it|its|he|she|they|his|her|their|this|these|that|those|such|there|both|the)\b", re.IGNORECASE
)
# A title longer than this would crowd the sentence out.
_TITLE_CHARS_MAX = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A sentence that may be said, and everywhere that it stands, best source first."""

    text: str
    spans: tuple[SourceSpan, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """A sentence that is said, and its logit."""

    candidate: Candidate
    logit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The sentences to say, in the order of the answer. `limited`: there were more that could have been said."""

    quotes: tuple[Quote, ...]
    limited: bool


def find_candidates(sources: Sequence[Source], *, sentence_bytes_max: int) -> list[Candidate]:
    """The distinct sentences of the sources, in the order of their first span; longer ones are cut at `sentence_bytes_max`."""
    places: dict[str, list[SourceSpan]] = {}
    for index, source in enumerate(sources):
        for sentence in split_sentences(source.text, sentence_bytes_max=sentence_bytes_max):
            span = SourceSpan(source_index=index, start_byte=sentence.start_byte, end_byte=sentence.end_byte)
            places.setdefault(sentence.text, []).append(span)
    return [Candidate(text=text, spans=tuple(spans)) for text, spans in places.items()]


def nearest(text: str, candidates: Sequence[Candidate], count_max: int) -> list[Candidate]:
    """At most `count_max` candidates, in order: those that share the rarest words with the text, then those that come first."""
    if len(candidates) <= count_max:
        return list(candidates)
    shared = _shared_words(text, [candidate.text for candidate in candidates])
    # Sorting is stable: equal overlap leaves the order of the sources.
    kept = sorted(range(len(candidates)), key=lambda place: -shared[place])[:count_max]
    return [candidates[place] for place in sorted(kept)]


def _shared_words(text: str, sentences: Sequence[str]) -> list[float]:
    """For each sentence the summed rarity, among these sentences, of the words that it shares with the text."""
    asked = stems(text)
    shared = [asked & stems(sentence) for sentence in sentences]
    frequency = Counter(stem for stems in shared for stem in stems)
    rarity = {stem: math.log((len(sentences) + 1) / count) for stem, count in frequency.items()}
    # fsum: a set has no order, and a sum that depends on it would break ties differently from run to run.
    return [math.fsum(rarity[stem] for stem in stems) for stems in shared]


def stems(text: str) -> set[str]:
    """The first letters of the text's words."""
    return {word[:_STEM_CHARS] for word in _WORD.findall(text.casefold())}


def in_context(candidate: Candidate, sources: Sequence[Source]) -> str:
    """The sentence as the model reads it: one that refers back stands behind the title of its best source, which says to what.

    Measured on 110 MedQuAD questions: the right sentence came first for 0.755 of them, without titles for 0.682, and answerable told
    from unanswerable with an AUC of 0.819 after 0.774. The title before every sentence gave 0.784, and the sentence before
    instead of a title made SQuAD worse (right 0.76 after 0.80).
    """
    title = sources[candidate.spans[0].source_index].title[:_TITLE_CHARS_MAX].strip()
    return f"{title}: {candidate.text}" if title and _REFERS_BACK.match(candidate.text) else candidate.text


def choose(
    candidates: Sequence[Candidate], logits: Sequence[float], *, threshold: float, margin: float, sentences_max: int
) -> Choice:
    """Choose what to say: the best sentence first, then the others in the order of the sources.

    The best sentence opens the answer because whoever reads only one should read that one; the others keep the order in which
    their authors wrote them, which is the order in which they make sense.

    Args:
        candidates: in source order, as `find_candidates` returns them.
        logits: one per candidate, finite.
        threshold: least logit of a sentence that is said.
        margin: how far below the best one a sentence may be, >= 0.
        sentences_max: most sentences, >= 1.

    Returns:
        Nothing where no logit reaches the threshold.
    """
    least = max(threshold, max(logits, default=-math.inf) - margin)
    ranked = sorted(range(len(candidates)), key=lambda place: -logits[place])
    chosen: list[int] = []
    words: list[set[str]] = []
    limited = False
    for place in ranked:
        if logits[place] < least:
            break
        these = set(_WORD.findall(candidates[place].text.casefold()))
        if any(_says_the_same(these, others) for others in words):
            continue
        if len(chosen) == sentences_max:
            limited = True
            break
        chosen.append(place)
        words.append(these)
    order = chosen[:1] + sorted(chosen[1:])
    quotes = tuple(Quote(candidate=candidates[place], logit=logits[place]) for place in order)
    return Choice(quotes=quotes, limited=limited)


def _says_the_same(these: set[str], others: set[str]) -> bool:
    # A sentence whose every word was said adds nothing; one with another number does, however alike it is.
    return these <= others or (
        len(these & others) >= _SAME_SHARE_MIN * len(these | others) and not any(map(str.isdigit, these - others))
    )


def write(quotes: Sequence[Quote]) -> Iterator[Delta | Citation]:
    """The answer as events: for each quote its text, then what it cites; a space, part of the later text, stands between two."""
    end_byte = 0
    for quote in quotes:
        separator = SEPARATOR if end_byte else ""
        start_byte = end_byte + len(separator)
        end_byte = start_byte + len(quote.candidate.text.encode())
        yield Delta(text=separator + quote.candidate.text)
        yield Citation(start_byte=start_byte, end_byte=end_byte, spans=quote.candidate.spans, logit=quote.logit)
