"""Cuts a text into passages on heading and sentence boundaries, and keeps where each came from, byte for byte.

The text is covered by *units*: headings, sentences, and the lines of lists and code. Units are packed into chunks of at most
`size` characters. A heading opens a new chunk once the current one is a third full, so that small sections share a chunk and large
ones never bleed into each other. Consecutive chunks of one section repeat up to `overlap` characters, in whole units.

This module says what the characters are; `gannet_kernels.chunking` scans them. What a unit is:

- heading: `# Title` with up to six marks, or a line that begins at the margin above a line of one repeated mark that is as long (or 40);
- list item: a bullet, or up to three digits with a full stop or parenthesis, then white space. It begins a unit, as a blank line does;
- sentence: up to . ! ? or …, closing quotes or brackets, and the white space before something that can begin a sentence; an
  abbreviation or an initial ends none.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gannet_kernels import chunking as scan

_CLASSES = {
    scan.SPACE: r"\s",
    scan.WORD: r"\w",
    scan.DIGIT: r"\d",
    scan.BLANK: r"[ \t\r\n\f\v\ufeff]",
    scan.ENDS: r"[.!?…]",
    scan.CLOSES: r"""["'”’)\]]""",
    scan.OPENS: r"""["'“‘(\[`*_]""",
    scan.BEGINS: r"[A-ZÀ-ÞČĆŠĐŽ0-9]",
    scan.ENDS_UNSPACED: r"[。！？]",
    scan.BULLET: r"[-*+•]",
    scan.UNDERLINES: r"""[=\-~^"*+#`:.'_]""",
    scan.INITIAL: r"[A-Z]",
}
_ABBREVIATIONS = (
    "e.g", "i.e", "etc", "cf", "vs", "Dr", "Mr", "Mrs", "Ms", "Prof", "St", "No", "Fig", "Eq", "approx", "resp", "al", "npr", "tj",
    "čl", "st", "br",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A passage: `text` is the document's UTF-8 text from `start_byte` to `end_byte`; `heading` is the one above or at its start."""

    text: str
    start_byte: int
    end_byte: int
    heading: str


def chunk(text: str, *, size: int, overlap: int) -> list[Chunk]:
    """Cut `text`.

    Args:
        text: the document; may hold any characters.
        size: most characters (code points) of a chunk, ≥ 1.
        overlap: most characters that a chunk repeats of the one before, < size.

    Returns:
        Chunks in order, none blank. Every character that is not white space is in at least one of them.
    """
    spans = scan.chunk_spans(_codes(text), _CLASS_OF, _ABBREVIATED, size, overlap)
    return [
        Chunk(text=text[start:end], start_byte=start_byte, end_byte=end_byte, heading=text[heading:heading_end])
        for start, end, start_byte, end_byte, heading, heading_end in spans.tolist()
    ]


def first_heading(text: str) -> str:
    """The first heading of `text`, or an empty string."""
    start, end = scan.first_heading_span(_codes(text), _CLASS_OF)
    return text[start:end]


def _codes(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)


def _classes() -> NDArray[np.uint16]:
    """The classes of every code point, as the regular expressions of `_CLASSES` see them; 2 MiB."""
    classes = np.zeros(0x110000, dtype=np.uint16)
    every = np.arange(classes.size, dtype="<u4").tobytes().decode("utf-32-le", errors="surrogatepass")
    for bit, pattern in _CLASSES.items():
        for run in re.finditer(f"{pattern}+", every):
            classes[run.start() : run.end()] |= bit
    return classes


def _backwards(words: Sequence[str]) -> NDArray[np.uint32]:
    rows = np.zeros((len(words), max(map(len, words))), dtype=np.uint32)
    for row, word in zip(rows, words, strict=True):
        row[: len(word)] = [ord(character) for character in reversed(word)]
    return rows


_CLASS_OF = _classes()
_ABBREVIATED = _backwards(_ABBREVIATIONS)
