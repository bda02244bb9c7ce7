"""Cuts a text into passages on heading and sentence boundaries, and keeps where each came from, byte for byte.

The text is covered by *units*: headings, sentences, and the lines of lists and code. Units are packed into chunks of at most
`size` characters. A heading opens a new chunk once the current one is a third full, so that small sections share a chunk and large
ones never bleed into each other. Consecutive chunks of one section repeat up to `overlap` characters, in whole units.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

# A sentence ends at . ! or ? with closing quotes or brackets, before white space and something that can begin a sentence. All
# alternatives share a first character class, which the regular expression engine looks for at several times the speed.
_SENTENCE_END = re.compile(
    r"""[.!?…。！？](?:(?<=[。！？])\s*|(?<=[.!?…])["'”’)\]]*\s+(?=["'“‘(\[`*_]*[A-ZÀ-ÞČĆŠĐŽ0-9]))"""
)
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|cf|vs|Dr|Mr|Mrs|Ms|Prof|St|No|Fig|Eq|approx|resp|al|npr|tj|čl|st|br)|\b[A-Z])\.\s*$"
)
_UNDERLINE = re.compile(r"([=\-~^\"*+#`:.'_])\1{2,}[ \t]*\n?")
# The lines that end what is before them, found behind the line feed before them; the others are never looked at one by one. No line is
# two of these.
_MARK = re.compile(
    r"""\n(?=
        (?P<heading>\#{1,6}[ \t]+\S)
      | (?P<underline>(?P<sign>[=\-~^"*+\#`:.'_])(?P=sign){2,}[ \t]*(?:\n|\Z))
      | [ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t]+\S
      | [ \t\r\f\v\ufeff]*\n
      | [ \t\r\f\v\ufeff]+\Z
    )""",
    re.VERBOSE,
)
_BLANK = " \t\r\n\f\v\ufeff"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A passage: `text` is the document's UTF-8 text from `start_byte` to `end_byte`; `heading` is the one above or at its start."""

    text: str
    start_byte: int
    end_byte: int
    heading: str


class _Unit(NamedTuple):  # thousands a document: a tuple is made in half of a dataclass's time
    start: int
    end: int
    heading: str | None = None


def chunk(text: str, *, size: int, overlap: int) -> list[Chunk]:
    """Cut `text`.

    Args:
        text: the document; may hold any characters.
        size: most characters (code points) of a chunk, ≥ 1.
        overlap: most characters that a chunk repeats of the one before, < size.

    Returns:
        Chunks in order, none blank. Every character that is not white space is in at least one of them.
    """
    if len(text) <= size and not any(mark.lastgroup for mark in _MARK.finditer("\n" + text)):
        spans = iter([(0, len(text), "")])  # a short text without headings is a chunk, whatever its sentences
    else:
        spans = _pack(list(_units(text, size)), size, overlap)
    chunks: list[Chunk] = []
    seen_chars = seen_bytes = 0
    for span_start, span_end, heading in spans:
        start, end = _strip(text, span_start, span_end)
        if start == end:
            continue
        seen_bytes += (
            len(text[seen_chars:start].encode()) if start >= seen_chars else -len(text[start:seen_chars].encode())
        )
        seen_chars = start
        body = text[start:end]
        size_bytes = len(body.encode())
        chunks.append(Chunk(text=body, start_byte=seen_bytes, end_byte=seen_bytes + size_bytes, heading=heading))
    return chunks


def first_heading(text: str) -> str:
    """The first heading of `text`, or an empty string."""
    return next((unit.heading for unit in _headings_and_lines(text) if unit.heading), "")


def _pack(units: Sequence[_Unit], size: int, overlap: int) -> Iterator[tuple[int, int, str]]:
    """Group units into (start, end, heading) of at most `size` characters."""
    first = 0
    heading = ""
    while first < len(units):
        heading_here = units[first].heading or heading
        last = first
        while last < len(units):
            unit = units[last]
            opens_section = unit.heading is not None and unit.start - units[first].start >= size // 3
            if last > first and (unit.end - units[first].start > size or opens_section):
                break
            heading = unit.heading or heading
            last += 1
        yield units[first].start, units[last - 1].end, heading_here
        if last == len(units):
            return
        first = _with_overlap(units, first, last, size, overlap)


def _with_overlap(units: Sequence[_Unit], first: int, last: int, size: int, overlap: int) -> int:
    """The unit that the next chunk begins with: `last`, or an earlier one of the same section within the overlap."""
    if units[last].heading is not None:
        return last
    begin = last
    while begin - 1 > first and units[begin - 1].heading is None:
        repeated = units[last].start - units[begin - 1].start
        if repeated > overlap or units[last].end - units[begin - 1].start > size:
            break
        begin -= 1
    return begin


def _units(text: str, size: int) -> Iterator[_Unit]:
    """Cover `text` with units of at most `size` characters."""
    for block in _headings_and_lines(text):
        if block.end - block.start <= size:
            yield block
            continue
        # A sentence longer than a chunk is cut at white space, or anywhere if there is none.
        start, heading = block.start, block.heading
        while block.end - start > size:
            cut = max(
                text.rfind(" ", start + size // 2, start + size), text.rfind("\n", start + size // 2, start + size)
            )
            cut = cut + 1 if cut > 0 else start + size
            yield _Unit(start, cut, heading)
            start, heading = cut, None
        yield _Unit(start, block.end, heading)


def _headings_and_lines(text: str) -> Iterator[_Unit]:
    """Headings, list items and sentences, covering the text without gaps."""
    prose_start = heading_end = 0
    # With a line feed in front every line has one before it, and a match begins where its line does in `text`.
    for mark in _MARK.finditer("\n" + text):
        start, kind = mark.start(), mark.lastgroup
        if kind == "heading":
            title_end = end = _line_end(text, start)
        elif kind == "underline":
            # What it underlines is the line above, unless that is a heading already.
            title_end, end = start, _line_end(text, start)
            start = text.rfind("\n", 0, max(start - 1, 0)) + 1
            if start < heading_end or not _is_title(text[start:title_end], text[title_end:end]):
                continue
        else:
            yield from _sentences(text, prose_start, start)
            prose_start = start
            continue
        yield from _sentences(text, prose_start, start)
        yield _Unit(start, end, text[start:title_end].strip().strip("#").strip())
        prose_start = heading_end = end
    yield from _sentences(text, prose_start, len(text))


def _line_end(text: str, start: int) -> int:
    return text.find("\n", start) + 1 or len(text)


def _is_title(line: str, below: str) -> bool:
    """Whether `below`, an underline, makes `line` a heading."""
    if not line.strip(_BLANK) or line[0] in " \t" or _UNDERLINE.fullmatch(line):
        return False
    return len(below.rstrip()) >= min(len(line.rstrip()), 40)


def _sentences(text: str, start: int, end: int) -> Iterator[_Unit]:
    begin = start
    for match in _SENTENCE_END.finditer(text, start, end):
        if _ABBREVIATION.search(text, max(begin, match.start() - 12), match.end()):
            continue
        yield _Unit(begin, match.end())
        begin = match.end()
    if begin < end:
        yield _Unit(begin, end)


def _strip(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start] in _BLANK:
        start += 1
    while end > start and text[end - 1] in _BLANK:
        end -= 1
    return start, end
