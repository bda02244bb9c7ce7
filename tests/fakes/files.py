"""Files of binary formats, made for the test that needs them."""

import io
from collections.abc import Sequence

import docx
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject


def pdf(pages: Sequence[Sequence[str]], passwords: tuple[str, str] | None = None) -> bytes:
    """A PDF with these lines of Latin-1 text on each page, encrypted by a user's and an owner's password."""
    writer = PdfWriter()
    font = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/Type1"),
            NameObject("/BaseFont"): NameObject("/Helvetica"),
            NameObject("/Encoding"): NameObject("/WinAnsiEncoding"),
        }
    )
    for lines in pages:
        page = writer.add_blank_page(width=595, height=842)
        stream = DecodedStreamObject()
        drawn = "".join(f"({line}) Tj 0 -14 Td " for line in lines)
        stream.set_data(f"BT /F1 12 Tf 72 770 Td {drawn}ET".encode("cp1252"))
        page[NameObject("/Resources")] = DictionaryObject(
            {NameObject("/Font"): DictionaryObject({NameObject("/F1"): font})}
        )
        page[NameObject("/Contents")] = writer._add_object(stream)
    if passwords is not None:
        writer.encrypt(*passwords, algorithm="AES-256")
    file = io.BytesIO()
    writer.write(file)
    return file.getvalue()


def word(*blocks: tuple[str, str] | list[list[str]]) -> bytes:
    """A .docx of (style, text) paragraphs and of tables, lists of rows."""
    document = docx.Document()
    for block in blocks:
        if isinstance(block, tuple):
            document.add_paragraph(block[1], style=block[0] or None)
        else:
            table = document.add_table(rows=len(block), cols=len(block[0]))
            for row, values in zip(table.rows, block, strict=True):
                for cell, value in zip(row.cells, values, strict=True):
                    cell.text = value
    file = io.BytesIO()
    document.save(file)
    return file.getvalue()
