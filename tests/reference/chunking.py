"""The plain way to cut a text: every line is looked at by itself. Rules and arguments: `gannet_gateway.documents.chunking`."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gannet_gateway.documents.chunking import Chunk

# A sentence ends at . ! or ? with closing quotes or brackets, before white space and something that can begin a sentence.
_SENTENCE_END = re.compile(r"""[.!?…]["'”’)\]]*\s+(?=["'“‘(\[`*_]*[A-ZÀ-ÞČĆŠĐŽ0-9])|[。！？]\s*""")
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|cf|vs|Dr|Mr|Mrs|Ms|Prof|St|No|Fig|Eq|approx|resp|al|npr|tj|čl|st|br)|\b[A-Z])\.\s*$"
)
_LINE = re.compile(r"[^\n]*\n?")
_MARKDOWN_HEADING = re.compile(r"#{1,6}[ \t]+\S")
_UNDERLINE = re.compile(r"([=\-~^\"*+#`:.'_])\1{2,}[ \t]*\n?")
_LIST_ITEM = re.compile(r"[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t]+\S")
_BLANK = " \t\r\n\f\v\ufeff"


@dataclass(frozen=True, slots=True)
class _Unit:
    start: int
    end: int
    heading: str | None = None


def chunk(text: str, *, size: int, overlap: int) -> list[Chunk]:
    """The chunks, in order."""
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
    lines = [match.span() for match in _LINE.finditer(text) if match.end() > match.start()]
    prose_start = 0
    at = 0
    while at < len(lines):
        start, end = lines[at]
        line = text[start:end]
        heading_lines = _heading_lines(text, lines, at)
        if heading_lines:
            yield from _sentences(text, prose_start, start)
            prose_start = lines[at + heading_lines - 1][1]
            yield _Unit(start, prose_start, line.strip().strip("#").strip())
            at += heading_lines
            continue
        if _LIST_ITEM.match(line) or not line.strip(_BLANK):
            yield from _sentences(text, prose_start, start)
            prose_start = start
        at += 1
    yield from _sentences(text, prose_start, len(text))


def _heading_lines(text: str, lines: Sequence[tuple[int, int]], at: int) -> int:
    """How many lines the heading at line `at` has: 0 for none, 1 for `# Title`, 2 for a title with its underline."""
    start, end = lines[at]
    line = text[start:end]
    if _MARKDOWN_HEADING.match(line):
        return 1
    if at + 1 == len(lines) or not line.strip(_BLANK) or line[0] in " \t" or _UNDERLINE.fullmatch(line):
        return 0
    below = text[slice(*lines[at + 1])]
    fits = len(below.rstrip()) >= min(len(line.rstrip()), 40)
    return 2 if fits and _UNDERLINE.fullmatch(below) else 0


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
