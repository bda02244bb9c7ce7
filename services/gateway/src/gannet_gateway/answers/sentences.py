"""Sentences of an answer, as byte spans: what citations and claims are about."""

import re
from dataclasses import dataclass

# A sentence ends at its full stop, unless what follows goes on in small letters or the stop belongs to a number, an initial or one of
# the abbreviations that answers are full of; a line ends one too.
_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s+[^\sa-zčćžšđ]|\s*\Z)|[。！？]|(?=\n)")
_NOT_AN_END = re.compile(
    r"(?:\b(?i:e\.g|i\.e|cf|vs|no|dr|mr|mrs|ms|st|fig|approx|tj|npr|sl|itd|god|str)|\b[A-Z]|^\s*\d{1,3})\.\Z"
)
_WORD = re.compile(r"\w")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """Bytes `start_byte` to `end_byte` of a text, without white space at the ends."""

    text: str
    start_byte: int
    end_byte: int


def split_sentences(text: str) -> list[Sentence]:
    """The sentences of `text` in order, those without a word left out; between them stands nothing but white space and marks."""
    found: list[Sentence] = []
    start = 0
    for match in [*_END.finditer(text), None]:
        end = match.end() if match else len(text)
        if match and match[0].startswith(".") and len(match[0]) == 1 and _NOT_AN_END.search(text, start, end):
            continue
        raw = text[start:end]
        stripped = raw.strip()
        if _WORD.search(stripped):
            first = start + len(raw) - len(raw.lstrip())
            start_byte = len(text[:first].encode())
            found.append(Sentence(text=stripped, start_byte=start_byte, end_byte=start_byte + len(stripped.encode())))
        start = end
    return found
