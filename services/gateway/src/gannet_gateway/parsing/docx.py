"""The text of Word documents (.docx)."""

import re
import zipfile
from typing import IO

import docx
from docx.blkcntnr import BlockItemContainer
from docx.document import Document
from docx.table import Table
from docx.text.paragraph import Paragraph

from gannet_gateway.parsing.text import Limits, TextBuffer, Unreadable

_HEADING = re.compile(r"Heading ([1-6])")


def add_docx(file: IO[bytes], buffer: TextBuffer, limits: Limits) -> None:
    """Append paragraphs and tables in their order; headings as "# Heading" lines, list items as "- item", a table's row as a line.

    Headers, footers, footnotes and comments are left out.

    Raises:
        Unreadable: not such a file, it unpacks to more than unpacked_bytes_max, or its text is too long.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            # What is read of a member is never more than it declares.
            unpacked = sum(member.file_size for member in archive.infolist())
    except zipfile.BadZipFile as error:
        raise Unreadable("not a .docx file (no ZIP archive); encrypted ones and .doc are not read") from error
    if unpacked > limits.unpacked_bytes_max:
        problem = f"it unpacks to {unpacked} bytes; the limit is unpacked_bytes_max = {limits.unpacked_bytes_max}"
        raise Unreadable(problem)
    file.seek(0)
    _add_blocks(docx.Document(file), buffer)


def _add_blocks(parent: Document, buffer: TextBuffer) -> None:
    for block in parent.iter_inner_content():
        if isinstance(block, Paragraph):
            prefix = _prefix(block)
            text = " ".join(block.text.split()) if prefix else block.text.strip()
            if text:
                buffer.add(f"{prefix}{text}\n\n")
        else:
            _add_table(block, buffer)


def _prefix(paragraph: Paragraph) -> str:
    style = paragraph.style.name if paragraph.style is not None else None
    if style == "Title":
        return "# "
    heading = _HEADING.fullmatch(style or "")
    if heading:
        return "#" * int(heading[1]) + " "
    return "- " if style is not None and style.startswith("List ") else ""


def _add_table(table: Table, buffer: TextBuffer) -> None:
    for row in table.rows:
        # A merged cell is listed once for every column that it spans.
        texts = [_blocks_text(cell) for cell in {id(cell): cell for cell in row.cells}.values()]
        if any(texts):
            buffer.add(" | ".join(texts) + "\n")
    buffer.add("\n")


def _blocks_text(parent: BlockItemContainer) -> str:
    """All text of a cell, tables within it included, on one line."""
    texts: list[str] = []
    for block in parent.iter_inner_content():
        if isinstance(block, Paragraph):
            texts.append(block.text)
        else:
            texts += [_blocks_text(cell) for row in block.rows for cell in row.cells]
    return " ".join(" ".join(texts).split())
