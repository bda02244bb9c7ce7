"""Turns uploaded bytes into the text that passages and offsets refer to."""

import re
from collections.abc import Iterable, Iterator

from selectolax.lexbor import LexborHTMLParser, LexborNode

from gannet_service.errors import InvalidInput

PLAIN = "text/plain"
HTML = "text/html"
MIME_TYPES = (PLAIN, "text/markdown", "text/x-rst", HTML)

_SKIPPED = frozenset({"script", "style", "template", "noscript", "head", "svg", "iframe"})
_BLOCKS = frozenset(
    re.findall(
        r"\w+",
        "address article aside blockquote body dd details div dl dt fieldset figcaption figure footer form header hr html li main "
        "nav ol p pre section summary table tbody td tfoot th thead tr ul",
    )
)
_HEADINGS = {f"h{level}": "#" * level for level in range(1, 7)}
HTML_DEPTH_MAX = 500

# Marks the lines of <pre>, whose indentation counts, until the blocks are joined; NUL cannot occur in an upload.
_PREFORMATTED = "\x00"
_WHITE_SPACE = re.compile(r"\s+")


def check_mime_type(mime_type: str) -> str:
    """The given type, or text/plain for an empty one; parameters such as a charset are cut off."""
    bare = mime_type.partition(";")[0].strip().lower() or PLAIN
    if bare not in MIME_TYPES:
        raise InvalidInput(f"mime_type: {mime_type[:100]!r} is not one of {', '.join(MIME_TYPES)}", field="mime_type")
    return bare


def to_text(content: bytes, mime_type: str) -> str:
    """The text of a document.

    Text formats are taken as they are, so that offsets count in the upload itself. Of HTML the visible text is taken, headings as
    "# Heading" lines, blocks on lines of their own.

    Raises:
        InvalidInput: not UTF-8, binary, or without any text.
    """
    if b"\x00" in content:
        raise InvalidInput("content: a binary file (it holds NUL bytes); text in UTF-8 is needed", field="content")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"content: not valid UTF-8 at byte {error.start}", field="content") from error
    if mime_type == HTML:
        text = _html_text(text)
    if not text.strip("\ufeff \t\r\n\f\v") or text.isspace():
        raise InvalidInput("content: the document has no text", field="content")
    return text


def _html_text(html: str) -> str:
    root = LexborHTMLParser(html).body
    if root is None:
        return ""
    pieces: list[str] = []
    _walk(root, pieces, preformatted=False, depth=0)
    lines = (line.strip() if not line.startswith(_PREFORMATTED) else line[1:] for line in "".join(pieces).split("\n"))
    return "\n".join(_without_runs(lines)).strip() + "\n"


def _walk(node: LexborNode, pieces: list[str], *, preformatted: bool, depth: int) -> None:
    if depth > HTML_DEPTH_MAX:
        raise InvalidInput(f"content: HTML nested deeper than {HTML_DEPTH_MAX} elements", field="content")
    child = node.child
    while child is not None:
        tag = child.tag or ""
        if tag == "-text":
            text = child.text_content or ""
            pieces.append(text.replace("\n", f"\n{_PREFORMATTED}") if preformatted else _WHITE_SPACE.sub(" ", text))
        elif tag == "br":
            pieces.append("\n")
        elif tag in _HEADINGS:
            pieces.append(f"\n\n{_HEADINGS[tag]} {' '.join(child.text().split())}\n\n")
        elif tag not in _SKIPPED:
            is_block = tag in _BLOCKS
            pieces.append("\n\n" if tag == "p" else "\n" if is_block else "")
            if tag == "li":
                pieces.append("- ")
            _walk(child, pieces, preformatted=preformatted or tag == "pre", depth=depth + 1)
            pieces.append("\n" if is_block else "")
        child = child.next


def _without_runs(lines: Iterable[str]) -> Iterator[str]:
    """Drop all but one of consecutive blank lines."""
    blank = True
    for line in lines:
        if line.strip() or not blank:
            yield line
        blank = not line.strip()
