"""Splits a passage into the sentences that may be quoted, each with its place in bytes.

`markup.py` finds the prose, `gannet_lexical.sentences` where its sentences end; here long ones are cut, and what is no statement is left
out.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from gannet_generator.extractive.markup import prose
from gannet_lexical.sentences import sentence_spans

_CLOSERS = "\"')]}”’»*_`"
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
        for start, end in sentence_spans(text, block_start, block_end):
            for piece in _cut(text, start, end, bytes_max):
                if _may_be_quoted(text[slice(*piece)]):
                    yield piece


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
