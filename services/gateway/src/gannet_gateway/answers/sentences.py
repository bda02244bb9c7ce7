"""Sentences of an answer, as byte spans: what citations and claims are about."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from gannet_lexical.sentences import sentence_spans

# Models write a line for each point that they make; one that goes on in small letters was wrapped.
_LINE = re.compile(r".+(?:\n[^\S\n]*[a-zčćžšđ].*)*")
_LIST_MARKER = re.compile(r"\s*(?:[-*+•]|\d{1,3}[.)])\s+(?=\S)")
_WORD = re.compile(r"\w")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """Bytes `start_byte` to `end_byte` of a text, without white space at the ends."""

    text: str
    start_byte: int
    end_byte: int


def split_sentences(text: str) -> list[Sentence]:
    """The sentences of `text` in order, those without a word left out; between them stands nothing but white space and marks of lists."""
    found: list[Sentence] = []
    chars, bytes_ = 0, 0
    for start, end in _spans(text):
        sentence = text[start:end]
        if _WORD.search(sentence):
            start_byte = bytes_ + len(text[chars:start].encode())
            chars, bytes_ = end, start_byte + len(sentence.encode())
            found.append(Sentence(text=sentence, start_byte=start_byte, end_byte=bytes_))
    return found


def _spans(text: str) -> Iterator[tuple[int, int]]:
    for line in _LINE.finditer(text):
        marker = _LIST_MARKER.match(text, line.start(), line.end())
        yield from sentence_spans(text, marker.end() if marker else line.start(), line.end())
