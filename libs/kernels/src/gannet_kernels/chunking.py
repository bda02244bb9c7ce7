"""Chunk boundaries of a text in one pass over its characters: headings, list items, sentences, packed to a size.

The rules are those of `gannet_gateway.documents.chunking`, which also makes the table of character classes.
Reference: `tests/reference/chunking.py`.
"""

import numpy as np
from numpy.typing import NDArray

from gannet_kernels._jit import EXACT, kernel

# Bits of the table of character classes. What regular expressions call \s, \w and \d:
SPACE = 1
WORD = 2
DIGIT = 4
# What is stripped off chunks, and what a blank line is made of.
BLANK = 8
# A sentence's end in most scripts, what may follow it, and what the next sentence may begin with.
ENDS = 16
CLOSES = 32
OPENS = 64
BEGINS = 128
# A sentence's end in scripts without spaces.
ENDS_UNSPACED = 256
BULLET = 512
UNDERLINES = 1024
# A single one of these before a full stop is an initial.
INITIAL = 2048

_NEWLINE, _TAB, _BLANK_SPACE, _HASH = 10, 9, 32, 35
_FULL_STOP, _PARENTHESIS = 46, 41
# Columns of a unit: its span, and the span of its heading's words, -1 where it is no heading.
_START, _END, _HEADING, _HEADING_END = 0, 1, 2, 3

Codes = NDArray[np.uint32]
Classes = NDArray[np.uint16]
Units = NDArray[np.int64]


@kernel("u32[:]", "u16[:]", "u32[:,:]", "i64", "i64", fastmath=EXACT)
def chunk_spans(codes: Codes, classes: Classes, abbreviations: NDArray[np.uint32], size: int, overlap: int) -> Units:
    """Cuts a text into chunks.

    Args:
        codes: u32[N], the text's code points; N may be 0.
        classes: u16[0x110000], the classes of each code point, a sum of the bits above.
        abbreviations: u32[A, L], what ends no sentence although a full stop follows, each without that full stop,
            written backwards and filled up with zeros.
        size: most characters of a chunk, >= 1.
        overlap: most characters that a chunk repeats of the one before, < size.

    Returns:
        i64[C, 6], a chunk per row: its span in characters, its span in UTF-8 bytes, and the span in characters of the
        words of the heading above it or at its start, empty where there is none.
    """
    units, count = _units(codes, classes, abbreviations, size)
    chunks = np.empty((count, 6), dtype=np.int64)
    found = first = 0
    heading = -1
    seen = seen_bytes = 0
    while first < count:
        here, last, heading = _fill(units, count, first, heading, size)
        start, end = _strip(codes, classes, BLANK, units[first, _START], units[last - 1, _END])
        if start < end:
            seen_bytes += _utf8_size(codes, seen, start) if seen <= start else -_utf8_size(codes, start, seen)
            seen = start
            chunks[found, 0], chunks[found, 1] = start, end
            chunks[found, 2], chunks[found, 3] = seen_bytes, seen_bytes + _utf8_size(codes, start, end)
            chunks[found, 4] = units[here, _HEADING] if here >= 0 else 0
            chunks[found, 5] = units[here, _HEADING_END] if here >= 0 else 0
            found += 1
        if last == count:
            break
        first = _with_overlap(units, first, last, size, overlap)
    return chunks[:found].copy()


@kernel("u32[:]", "u16[:]", fastmath=EXACT)
def first_heading_span(codes: Codes, classes: Classes) -> tuple[int, int]:
    """The span in characters of the words of a text's first heading that has any, or (0, 0); arguments as `chunk_spans`."""
    at = 0
    while at < codes.shape[0]:
        end = _line_end(codes, at)
        heading_end = _heading_end(codes, classes, at, end)
        if heading_end > 0:
            start, stop = _heading_words(codes, classes, at, end)
            if start < stop:
                return start, stop
        at = max(end, heading_end)
    return 0, 0


@kernel(fastmath=EXACT)
def _fill(units: Units, count: int, first: int, heading: int, size: int) -> tuple[int, int, int]:
    """Fills a chunk from unit `first` on: the unit of its heading, the unit behind it, the unit of the heading there."""
    here = first if units[first, _HEADING] < units[first, _HEADING_END] else heading
    last = first
    while last < count:
        opens_section = units[last, _HEADING] >= 0 and units[last, _START] - units[first, _START] >= size // 3
        if last > first and (units[last, _END] - units[first, _START] > size or opens_section):
            break
        if units[last, _HEADING] < units[last, _HEADING_END]:
            heading = last
        last += 1
    return here, last, heading


@kernel(fastmath=EXACT)
def _with_overlap(units: Units, first: int, last: int, size: int, overlap: int) -> int:
    """The unit that the next chunk begins with: `last`, or an earlier one of the same section within the overlap."""
    if units[last, _HEADING] >= 0:
        return last
    begin = last
    while begin - 1 > first and units[begin - 1, _HEADING] < 0:
        repeated = units[last, _START] - units[begin - 1, _START]
        if repeated > overlap or units[last, _END] - units[begin - 1, _START] > size:
            break
        begin -= 1
    return begin


@kernel(fastmath=EXACT)
def _units(codes: Codes, classes: Classes, abbreviations: NDArray[np.uint32], size: int) -> tuple[Units, int]:
    """Covers the text without gaps with headings, list items and sentences of at most `size` characters."""
    units = np.empty((codes.shape[0] // 32 + 16, 4), dtype=np.int64)
    count = prose = at = 0
    while at < codes.shape[0]:
        end = _line_end(codes, at)
        heading_end = _heading_end(codes, classes, at, end)
        if heading_end > 0:
            units, count = _sentences(codes, classes, abbreviations, prose, at, size, units, count)
            start, stop = _heading_words(codes, classes, at, end)
            units, count = _put(codes, at, heading_end, start, stop, size, units, count)
            at = prose = heading_end
            continue
        if _is_list_item(codes, classes, at, end) or _only(codes, classes, BLANK, at, end):
            units, count = _sentences(codes, classes, abbreviations, prose, at, size, units, count)
            prose = at
        at = end
    return _sentences(codes, classes, abbreviations, prose, at, size, units, count)


@kernel(fastmath=EXACT)
def _sentences(
    codes: Codes,
    classes: Classes,
    abbreviations: NDArray[np.uint32],
    start: int,
    end: int,
    size: int,
    units: Units,
    count: int,
) -> tuple[Units, int]:
    begin = start
    at = _find(codes, classes, ENDS | ENDS_UNSPACED, start, end)
    while at < end:
        behind = at
        if classes[codes[at]] & ENDS:
            closed = _skip(codes, classes, CLOSES, at + 1, end)
            behind = _skip(codes, classes, SPACE, closed, end)
            next_word = _skip(codes, classes, OPENS, behind, end)
            if behind == closed or next_word == end or not classes[codes[next_word]] & BEGINS:
                behind = at
            elif closed == at + 1 and _is_abbreviated(codes, classes, abbreviations, max(begin, at - 12), at):
                at = _find(codes, classes, ENDS | ENDS_UNSPACED, behind, end)
                continue
        else:
            behind = _skip(codes, classes, SPACE, at + 1, end)
        if behind > at:
            units, count = _put(codes, begin, behind, -1, -1, size, units, count)
            begin = behind
        at = _find(codes, classes, ENDS | ENDS_UNSPACED, max(behind, at + 1), end)
    if begin < end:
        units, count = _put(codes, begin, end, -1, -1, size, units, count)
    return units, count


@kernel(fastmath=EXACT)
def _put(
    codes: Codes, start: int, end: int, heading: int, heading_end: int, size: int, units: Units, count: int
) -> tuple[Units, int]:
    """Appends a unit; what is longer than a chunk is cut at white space, or anywhere if there is none."""
    while True:
        if count == units.shape[0]:
            grown = np.empty((2 * count, 4), dtype=np.int64)
            grown[:count] = units
            units = grown
        cut = end
        if end - start > size:
            cut = start + size
            for at in range(start + size - 1, max(start + size // 2, 1) - 1, -1):
                if codes[at] == _BLANK_SPACE or codes[at] == _NEWLINE:
                    cut = at + 1
                    break
        units[count, _START], units[count, _END] = start, cut
        units[count, _HEADING], units[count, _HEADING_END] = heading, heading_end
        count += 1
        if cut == end:
            return units, count
        start, heading, heading_end = cut, -1, -1


@kernel(fastmath=EXACT)
def _is_abbreviated(codes: Codes, classes: Classes, abbreviations: NDArray[np.uint32], least: int, stop: int) -> bool:
    """Whether the full stop at `stop` follows an abbreviation or an initial that begins at `least` or behind it."""
    if codes[stop] != _FULL_STOP or stop == least:
        return False
    if classes[codes[stop - 1]] & INITIAL and (stop == 1 or not classes[codes[stop - 2]] & WORD):
        return True
    for row in range(abbreviations.shape[0]):
        length = 0
        while length < abbreviations.shape[1] and abbreviations[row, length] != 0:
            if stop - length - 1 < least or codes[stop - length - 1] != abbreviations[row, length]:
                length = -1
                break
            length += 1
        if length > 0 and (stop == length or not classes[codes[stop - length - 1]] & WORD):
            return True
    return False


@kernel(fastmath=EXACT)
def _heading_end(codes: Codes, classes: Classes, start: int, end: int) -> int:
    """Where the heading that begins with the line start..end ends: that line or its underline; 0 if it is none."""
    marks = 0
    while marks < 6 and start + marks < end and codes[start + marks] == _HASH:
        marks += 1
    if marks > 0 and _is_indented_word(codes, classes, start + marks, end):
        return end
    if (
        end == codes.shape[0]
        or codes[start] == _BLANK_SPACE
        or codes[start] == _TAB
        or not classes[codes[end]] & UNDERLINES
    ):
        return 0
    below = _line_end(codes, end)
    if (
        not _is_underline(codes, classes, end, below)
        or _only(codes, classes, BLANK, start, end)
        or _is_underline(codes, classes, start, end)
    ):
        return 0
    width = _rstrip(codes, classes, SPACE, start, end) - start
    width_below = _rstrip(codes, classes, SPACE, end, below) - end
    return below if width_below >= min(width, 40) else 0


@kernel(fastmath=EXACT)
def _heading_words(codes: Codes, classes: Classes, start: int, end: int) -> tuple[int, int]:
    start, end = _strip(codes, classes, SPACE, start, end)
    while start < end and codes[start] == _HASH:
        start += 1
    while start < end and codes[end - 1] == _HASH:
        end -= 1
    return _strip(codes, classes, SPACE, start, end)


@kernel(fastmath=EXACT)
def _is_underline(codes: Codes, classes: Classes, start: int, end: int) -> bool:
    """Whether a line is one mark, three times or more."""
    if not classes[codes[start]] & UNDERLINES:
        return False
    at = start
    while at < end and codes[at] == codes[start]:
        at += 1
    if at - start < 3:
        return False
    at = _skip_indent(codes, at, end)
    return at == end or codes[at] == _NEWLINE


@kernel(fastmath=EXACT)
def _is_list_item(codes: Codes, classes: Classes, start: int, end: int) -> bool:
    at = _skip_indent(codes, start, end)
    if at == end:
        return False
    if classes[codes[at]] & BULLET:
        return _is_indented_word(codes, classes, at + 1, end)
    digits = 0
    while digits < 3 and at + digits < end and classes[codes[at + digits]] & DIGIT:
        digits += 1
    at += digits
    if digits == 0 or at == end or not (codes[at] == _FULL_STOP or codes[at] == _PARENTHESIS):
        return False
    return _is_indented_word(codes, classes, at + 1, end)


@kernel(fastmath=EXACT)
def _is_indented_word(codes: Codes, classes: Classes, start: int, end: int) -> bool:
    """Whether blanks or tabs come first, and something other than white space behind them."""
    at = _skip_indent(codes, start, end)
    return start < at < end and not classes[codes[at]] & SPACE


@kernel(fastmath=EXACT)
def _line_end(codes: Codes, start: int) -> int:
    """Behind the line's newline, or the end of the text."""
    for at in range(start, codes.shape[0]):
        if codes[at] == _NEWLINE:
            return at + 1
    return codes.shape[0]


@kernel(fastmath=EXACT)
def _skip_indent(codes: Codes, start: int, end: int) -> int:
    at = start
    while at < end and (codes[at] == _BLANK_SPACE or codes[at] == _TAB):
        at += 1
    return at


@kernel(fastmath=EXACT)
def _skip(codes: Codes, classes: Classes, kind: int, start: int, end: int) -> int:
    for at in range(start, end):
        if not classes[codes[at]] & kind:
            return at
    return end


@kernel(fastmath=EXACT)
def _find(codes: Codes, classes: Classes, kind: int, start: int, end: int) -> int:
    for at in range(start, end):
        if classes[codes[at]] & kind:
            return at
    return end


@kernel(fastmath=EXACT)
def _only(codes: Codes, classes: Classes, kind: int, start: int, end: int) -> bool:
    return _skip(codes, classes, kind, start, end) == end


@kernel(fastmath=EXACT)
def _strip(codes: Codes, classes: Classes, kind: int, start: int, end: int) -> tuple[int, int]:
    start = _skip(codes, classes, kind, start, end)
    return start, _rstrip(codes, classes, kind, start, end)


@kernel(fastmath=EXACT)
def _rstrip(codes: Codes, classes: Classes, kind: int, start: int, end: int) -> int:
    while end > start and classes[codes[end - 1]] & kind:
        end -= 1
    return end


@kernel(fastmath=EXACT)
def _utf8_size(codes: Codes, start: int, end: int) -> int:
    size = end - start
    for at in range(start, end):
        size += int(codes[at] >= 0x80) + int(codes[at] >= 0x800) + int(codes[at] >= 0x10000)
    return size
