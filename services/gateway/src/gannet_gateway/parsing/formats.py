"""The formats that documents may have, and the text of a document by its format."""

from typing import IO

from gannet_gateway.parsing.text import Limits, TextBuffer, Unreadable, is_blank

PLAIN = "text/plain"
HTML = "text/html"
PDF = "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
JSONL = "application/jsonl"
CSV = "text/csv"

# The text of these is the upload itself.
VERBATIM = frozenset({PLAIN, "text/markdown", "text/x-rst"})
MIME_TYPES = (PLAIN, "text/markdown", "text/x-rst", HTML, PDF, DOCX, JSONL, CSV)
SUFFIXES = {
    ".md": "text/markdown",
    ".rst": "text/x-rst",
    ".txt": PLAIN,
    ".html": HTML,
    ".htm": HTML,
    ".pdf": PDF,
    ".docx": DOCX,
    ".jsonl": JSONL,
    ".csv": CSV,
}
ALIASES = {"application/x-ndjson": JSONL, "application/x-jsonlines": JSONL, "application/json-lines": JSONL}

_BINARY = frozenset({PDF, DOCX})


def to_text(file: IO[bytes], mime_type: str, limits: Limits) -> str:
    """The text of a document.

    Verbatim formats are taken as they are, so that offsets count in the upload itself; of the others, offsets count in what this
    returns.

    Raises:
        Unreadable: not UTF-8, binary, encrypted, without any text, or beyond a limit.
    """
    read = _binary_text if mime_type in _BINARY else _utf8_text
    text = read(file, mime_type, limits)
    if is_blank(text):
        raise Unreadable("the document has no text")
    return text


def _utf8_text(file: IO[bytes], mime_type: str, limits: Limits) -> str:
    content = file.read()
    if mime_type in VERBATIM and len(content) > limits.text_bytes_max:
        raise Unreadable(f"its text is longer than text_bytes_max = {limits.text_bytes_max} bytes")
    if b"\x00" in content:
        raise Unreadable("a binary file (it holds NUL bytes); text in UTF-8 is needed")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable(f"not valid UTF-8 at byte {error.start}") from error
    if mime_type in VERBATIM:
        return text
    buffer = TextBuffer(limits)
    # Imported where they are needed: the gateway itself reads small files only.
    if mime_type == HTML:
        from gannet_gateway.parsing.html import html_text  # noqa: PLC0415

        buffer.add(html_text(text))
    elif mime_type == CSV:
        from gannet_gateway.parsing.rows import add_csv  # noqa: PLC0415

        add_csv(text, buffer, limits)
    else:
        from gannet_gateway.parsing.rows import add_jsonl  # noqa: PLC0415

        add_jsonl(text, buffer)
    return buffer.text()


def _binary_text(file: IO[bytes], mime_type: str, limits: Limits) -> str:
    buffer = TextBuffer(limits)
    if mime_type == PDF:
        from gannet_gateway.parsing.pdf import add_pdf  # noqa: PLC0415

        add_pdf(file, buffer)
    else:
        from gannet_gateway.parsing.docx import add_docx  # noqa: PLC0415

        add_docx(file, buffer, limits)
    return buffer.text()
