"""Splits a passage into the sentences that may be quoted, each with its place in bytes.

A full stop ends a sentence unless the word before it, or the word after it, says otherwise. Dots inside of words (decimals, versions,
URLs, `os.path`) never end one, since a sentence's end is followed by white space.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from gannet_generator.extractive.markup import prose

_CLOSERS = "\"')]}”’»*_`"
_OPENERS = "\"'([{“‘«*_`"
_END = re.compile(rf"[.!?…]+[{re.escape(_CLOSERS)}]*(?=\s)|[。！？]+[」』”’）]*")
_FULL_STOPS_CJK = "。！？"
_WORD_CHARS_MAX = 40


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Always followed by what they belong to.
_NEVER_LAST = _words(
    "mr mrs ms dr prof st mt gen col capt lt sgt rep sen gov hon rev e.g i.e eg ie vs viz cf resp approx ca incl excl"
)
# A number follows these unless they end a sentence ("No.").
_BEFORE_NUMBER = _words(
    "no nos nr fig figs eq eqs sec sect ch chap vol art para p pp ver jan feb mar apr jun jul aug sep sept oct nov dec"
)
# Dotted acronyms (U.S., p.m., Ph.D.) may end a sentence: what follows decides.
_DOTTED = re.compile(r"(?:[^\W\d_]{1,2}\.)+[^\W\d_]{1,2}$")
_STARTERS = _words(
    "a an and as at but by for from he her his how however if in it its many most no not on one our she since so some such that the "
    "their then there these they this those to under we what when where which while who why with you your"
)
# Abbreviations that are not listed are short: "min. size", "etc. and so on".
_ABBREVIATION_CHARS_MAX = 4

_CLAUSE_END = re.compile(r"[;:,—–]\s+|\s[—–]\s")
_SPACE = re.compile(r"\s+")

_WORD = re.compile(r"[^\W\d_]{2,}")
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_CODE_SIGNS = re.compile(r"[=<>{}\[\]|\\^~@#$%&+;]")
_WORDS_MIN = 3
_UNSPACED_MIN = 6
_CODE_SIGNS_SHARE_MAX = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """A quotable sentence: exactly the bytes `start_byte` to `end_byte` of its passage."""

    text: str
    start_byte: int
    end_byte: int


def split_sentences(text: str, *, sentence_bytes_max: int) -> list[Sentence]:
    """Find the sentences of a passage that may be quoted.

    Left out: headings, code, tables, what has fewer than three words, and questions, which answer nothing.

    Args:
        text: the passage.
        sentence_bytes_max: a longer sentence is cut at the end of a clause, else at white space, else between two characters;
            at least 4, the longest character.

    Returns:
        The sentences in order; their spans are ascending and disjoint, and neither start nor end in white space.
    """
    sentences: list[Sentence] = []
    chars, bytes_ = 0, 0
    for start, end in _quotable(text, sentence_bytes_max):
        start_byte = bytes_ + len(text[chars:start].encode())
        quoted = text[start:end]
        chars, bytes_ = end, start_byte + len(quoted.encode())
        sentences.append(Sentence(text=quoted, start_byte=start_byte, end_byte=bytes_))
    return sentences


def _quotable(text: str, bytes_max: int) -> Iterator[tuple[int, int]]:
    for block_start, block_end in prose(text):
        for start, end in _sentences(text, block_start, block_end):
            for piece in _cut(text, start, end, bytes_max):
                if _may_be_quoted(text[slice(*piece)]):
                    yield piece


def _sentences(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The sentences of one paragraph."""
    for found in _END.finditer(text, start, end):
        following = _SPACE.match(text, found.end(), end)
        next_start = following.end() if following else found.end()
        if next_start < end and _ends_sentence(text, start, found, next_start):
            yield start, found.end()
            start = next_start
    yield start, end


def _ends_sentence(text: str, start: int, found: re.Match[str], next_start: int) -> bool:
    mark = found.group()
    if mark[0] in _FULL_STOPS_CJK:
        return True
    if len(mark) == 1 and text[found.start() - 1 : found.start()].isspace():
        # Tokenised text, "… the sea . it nests …": no abbreviation stands apart from its stop.
        return True
    lower_follows = text[next_start].islower()
    if mark.startswith(("...", "…")):
        return not lower_follows
    if "!" in mark or "?" in mark:
        # "Why?" he asked.
        return not (lower_follows and mark[-1] in _CLOSERS)
    before = text[max(start, found.start() - _WORD_CHARS_MAX) : found.start()].split()
    word = before[-1].lstrip(_OPENERS) if before else ""
    after = text[next_start : next_start + _WORD_CHARS_MAX].split(maxsplit=1)[0].strip(_OPENERS + _CLOSERS + ",")
    return _stops_after(word, after)


def _stops_after(word: str, after: str) -> bool:
    """Whether the full stop after `word` ends a sentence when `after` follows."""
    lower = word.lower()
    if lower in _NEVER_LAST or (len(word) == 1 and word.isupper()):
        return False
    if lower in _BEFORE_NUMBER:
        return not after[:1].isdigit()
    if _DOTTED.match(lower):
        return after[:1].isupper() and after.lower() in _STARTERS
    if after[:1].islower():
        return len(word) > _ABBREVIATION_CHARS_MAX or not word[-1:].isalpha()
    return True


def _cut(text: str, start: int, end: int, bytes_max: int) -> Iterator[tuple[int, int]]:
    """Pieces of at most `bytes_max` bytes, white space between them left out."""
    # A character has at most 4 bytes: most sentences are short enough without being encoded.
    while (end - start) * 4 > bytes_max and len(text[start:end].encode()) > bytes_max:
        window = text[start : min(end, start + bytes_max)].encode()[:bytes_max].decode("utf-8", "ignore")
        cut = _last_end(_CLAUSE_END, window) or _last_end(_SPACE, window) or len(window)
        piece_end = start + len(window[:cut].rstrip())
        yield start, piece_end
        following = _SPACE.match(text, start + cut, end)
        start = following.end() if following else start + cut
    if start < end:
        yield start, end


def _last_end(pattern: re.Pattern[str], window: str) -> int:
    """Where the last match in the second half of the window ends; 0 if there is none."""
    return max((found.end() for found in pattern.finditer(window, len(window) // 2)), default=0)


def _may_be_quoted(text: str) -> bool:
    if text.rstrip(_CLOSERS).endswith(("?", "？")) or "::=" in text:
        return False
    enough_words = len(_WORD.findall(text)) >= _WORDS_MIN or len(_UNSPACED.findall(text)) >= _UNSPACED_MIN
    return enough_words and len(_CODE_SIGNS.findall(text)) <= _CODE_SIGNS_SHARE_MAX * len(text)
