"""The visible text of HTML."""

import re
from collections.abc import Iterable, Iterator

from selectolax.lexbor import LexborHTMLParser, LexborNode

from gannet_gateway.parsing.text import Unreadable

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


def html_text(html: str) -> str:
    """What a reader sees: headings as "# Heading" lines, blocks on lines of their own.

    Raises:
        Unreadable: elements nested deeper than HTML_DEPTH_MAX.
    """
    root = LexborHTMLParser(html).body
    if root is None:
        return ""
    pieces: list[str] = []
    _walk(root, pieces, preformatted=False, depth=0)
    lines = (line.strip() if not line.startswith(_PREFORMATTED) else line[1:] for line in "".join(pieces).split("\n"))
    return "\n".join(_without_runs(lines)).strip() + "\n"


def _walk(node: LexborNode, pieces: list[str], *, preformatted: bool, depth: int) -> None:
    if depth > HTML_DEPTH_MAX:
        raise Unreadable(f"HTML nested deeper than {HTML_DEPTH_MAX} elements")
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
