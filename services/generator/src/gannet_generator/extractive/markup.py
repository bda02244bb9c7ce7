"""Finds the prose in a passage: paragraphs and list items of plain text, Markdown and reStructuredText, without headings, code and tables.

It reads line by line and knows the markup that matters for quoting, not the whole of either language: what is left out cannot be
quoted, and what is let through wrongly still has to look like a sentence (`sentences.py`) and to score.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

_LIST_MARKER = re.compile(r"(?:[-*+•‣]|\(?(?:\d{1,3}|[A-Za-z])[.)])\s+(?=\S)")
_DIRECTIVE = re.compile(r"\.\. ?([\w:.+-]+?)::(?:\s|$)")
_OPTION = re.compile(r":[\w -]+:(?:\s|$)")
_ADMONITIONS = frozenset(
    {
        *(
            "admonition",
            "attention",
            "caution",
            "danger",
            "deprecated",
            "error",
            "hint",
            "important",
            "note",
            "seealso",
        ),
        *("tip", "topic", "versionadded", "versionchanged", "warning"),
    }
)
_TABLE_BORDER = re.compile(r"=+(?: +=+)+$")
_HEADING = re.compile(r"#{1,6}\s")
_ENDS_LIKE_PROSE = re.compile(r"""[.!?…。！？]["')\]”’»*_`]*$""")
# Text that stands further in than a list's hanging indent and does not end like a sentence is code or a signature.
_INDENT_OF_CODE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """A line without its end: where its text starts and ends in the passage, and how far in it stands."""

    start: int
    end: int
    indent: int
    text: str


@dataclass(slots=True, kw_only=True)
class _Block:
    """The paragraph or list item that is being read."""

    start: int
    end: int
    indent: int
    lines: int
    item: bool
    continues: bool


def prose(text: str) -> Iterator[tuple[int, int]]:
    """Find the paragraphs and list items of a passage.

    Args:
        text: the passage.

    Yields:
        Their spans as character offsets: ascending, disjoint, neither starting nor ending in white space. A list item starts
        after its marker.
    """
    lines = list(_lines(text))
    block: _Block | None = None
    literal_indent: int | None = None
    after_code = False
    at = 0
    while at < len(lines):
        line = lines[at]
        if literal_indent is not None and line.text:
            # The paragraph before ended in "::", so what stands further in is literal.
            after_code = lines[at].indent > literal_indent
            at = _indented_end(lines, at, literal_indent)
            literal_indent = None
            continue
        after = _markup_end(lines, at, in_block=block is not None)
        if line.text and after == at:
            if block is not None and _starts_anew(line, block, text):
                yield from _closed(block, text)
                block = None
            block = _extended(block, line, after_code=after_code)
            after_code = False
            at += 1
            continue
        if block is not None:
            if not _is_underline(line, block):
                yield from _closed(block, text)
            if text.endswith("::", 0, block.end) and not line.text:
                literal_indent = block.indent
            block = None
        at = max(after, at + 1)
    if block is not None:
        yield from _closed(block, text)


def _lines(text: str) -> Iterator[_Line]:
    start = 0
    for raw in text.split("\n"):
        body = raw.strip()
        indent = len(raw) - len(raw.lstrip()) if body else 0
        yield _Line(start=start + indent, end=start + indent + len(body), indent=indent, text=body)
        start += len(raw) + 1


def _extended(block: _Block | None, line: _Line, *, after_code: bool) -> _Block:
    """The block with the line, or a new one that the line begins."""
    if block is not None:
        block.end = line.end
        block.lines += 1
        return block
    marker = _LIST_MARKER.match(line.text)
    width = marker.end() if marker else 0
    return _Block(
        start=line.start + width,
        end=line.end,
        indent=line.indent + width,
        lines=1,
        item=marker is not None,
        # "The statements … <code> … are equivalent to": the rest of a sentence that code stands in the middle of.
        continues=after_code and line.text[0].islower(),
    )


def _starts_anew(line: _Line, block: _Block, text: str) -> bool:
    """A list item, a line further out, or what a line that ends in a colon introduces."""
    introduced = line.indent > block.indent and text.endswith(":", 0, block.end)
    further_out = line.indent < block.indent and not block.item
    return introduced or further_out or _LIST_MARKER.match(line.text) is not None


def _closed(block: _Block, text: str) -> Iterator[tuple[int, int]]:
    prose_like = block.item or block.indent < _INDENT_OF_CODE or _ENDS_LIKE_PROSE.search(text, block.start, block.end)
    if prose_like and not block.continues:
        yield block.start, block.end


def _is_underline(line: _Line, block: _Block) -> bool:
    """A row of one punctuation character under a single line makes that line a heading."""
    return block.lines == 1 and len(line.text) >= 3 and len(set(line.text)) == 1 and not line.text.isalnum()


def _markup_end(lines: Sequence[_Line], at: int, *, in_block: bool) -> int:
    """The line after the markup that begins at line `at`; `at` itself where none does."""
    text = lines[at].text
    if text.startswith("```") or (text.startswith("~~~") and not in_block):
        return _past(lines, at + 1, lambda line: line.text.startswith(text[:3]))
    if text.startswith(">>>"):
        return _past(lines, at + 1, lambda line: not line.text)
    if text == ".." or text.startswith(".. "):
        return _directive_end(lines, at)
    if _TABLE_BORDER.match(text):
        return _table_end(lines, at)
    if _HEADING.match(text) or text.startswith("|") or not any(map(str.isalnum, text)):
        return at + 1
    return at


def _directive_end(lines: Sequence[_Line], at: int) -> int:
    """Past a directive's line and options; past its body, too, unless that is prose."""
    directive = _DIRECTIVE.match(lines[at].text)
    if directive is None or directive[1] not in _ADMONITIONS:
        return _indented_end(lines, at + 1, lines[at].indent)
    at += 1
    while at < len(lines) and _OPTION.match(lines[at].text):
        at += 1
    return at


def _table_end(lines: Sequence[_Line], at: int) -> int:
    """Past the border that a blank line follows."""
    while at < len(lines) and lines[at].text:
        at += 1
        if _TABLE_BORDER.match(lines[at - 1].text) and (at == len(lines) or not lines[at].text):
            break
    return at


def _past(lines: Sequence[_Line], at: int, ends: Callable[[_Line], bool]) -> int:
    """Past the next line, from `at`, that ends what was begun; past the last one if none does."""
    while at < len(lines) and not ends(lines[at]):
        at += 1
    return min(at + 1, len(lines))


def _indented_end(lines: Sequence[_Line], at: int, indent: int) -> int:
    while at < len(lines) and (not lines[at].text or lines[at].indent > indent):
        at += 1
    return at
