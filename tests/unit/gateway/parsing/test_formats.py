import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gannet_gateway.documents.chunking import chunk
from gannet_gateway.parsing import formats
from gannet_gateway.parsing.formats import CSV, DOCX, HTML, JSONL, MIME_TYPES, PDF, PLAIN, VERBATIM
from gannet_gateway.parsing.html import HTML_DEPTH_MAX
from gannet_gateway.parsing.parser import check_mime_type
from gannet_gateway.parsing.text import Limits, Unreadable
from gannet_service.errors import InvalidInput

TEXT_FORMATS = [kind for kind in MIME_TYPES if kind not in (PDF, DOCX)]
LIMITS = Limits(text_bytes_max=1 << 20, unpacked_bytes_max=1 << 20)


def to_text(content: bytes, mime_type: str, limits: Limits = LIMITS) -> str:
    """The text of a content."""
    return formats.to_text(io.BytesIO(content), mime_type, limits)


def refused(content: bytes, mime_type: str = PLAIN, limits: Limits = LIMITS) -> str:
    """Why a content is not taken."""
    with pytest.raises(Unreadable) as caught:
        to_text(content, mime_type, limits)
    return str(caught.value)


@pytest.mark.parametrize("mime_type", sorted(VERBATIM))
def test_to_text_of_text_formats_is_the_upload(mime_type: str):
    """Offsets count in the upload itself: not a byte is changed."""
    content = "\ufeff# Naslov\r\n\r\nČ  ć\t😀 <b>&amp;</b>".encode()
    assert to_text(content, mime_type).encode() == content


@pytest.mark.parametrize("content", [b"", b" \n\t", "\ufeff \u00a0".encode()[:4], b"\xe2\x80\xa8\r\n"])
@pytest.mark.parametrize("mime_type", TEXT_FORMATS)
def test_to_text_without_text_is_refused(content: bytes, mime_type: str):
    """White space is no document."""
    assert refused(content, mime_type) == "the document has no text"


@given(st.text(alphabet=" \n\t\ufeff\u00a0\u2028\x1c\u200b.a", max_size=6))
def test_to_text_that_is_taken_has_passages(text: str):
    """Whatever passes the check gives at least one passage."""
    try:
        taken = to_text(text.encode(), PLAIN)
    except Unreadable:
        return
    assert chunk(taken, size=100, overlap=0)


@pytest.mark.parametrize("mime_type", TEXT_FORMATS)
def test_to_text_of_binary_is_refused(mime_type: str):
    """A NUL byte is in every image and archive, and in no text."""
    assert refused(b"PK\x03\x04\x00\x00", mime_type).startswith("a binary file")


def test_to_text_of_invalid_utf8_names_the_byte():
    """The caller finds the place."""
    assert refused(b"good \xff") == "not valid UTF-8 at byte 5"


def test_to_text_of_html_takes_the_visible_text():
    """Headings become heading lines, blocks lines; scripts, styles and the head are left out."""
    html = (
        "<html><head><title>No</title><style>p{}</style></head><body><script>no()</script>"
        "<h1>Big <em>title</em></h1><p>One  &amp;\n two<br>three</p><ul><li>first</li><li>second</li></ul>"
        "<pre>  def f():\n    pass</pre><template>no</template></body></html>"
    )
    assert to_text(html.encode(), HTML) == (
        "# Big title\n\nOne & two\nthree\n\n- first\n\n- second\n\ndef f():\n    pass\n"
    )


def test_to_text_of_deep_html_is_refused():
    """The depth is bounded, and the bound is named."""
    shallow, deep = HTML_DEPTH_MAX // 2, HTML_DEPTH_MAX + 100
    assert to_text(b"<div>" * shallow + b"x" + b"</div>" * shallow, HTML) == "x\n"
    assert refused(b"<div>" * deep + b"x", HTML).endswith(f"deeper than {HTML_DEPTH_MAX} elements")


@given(
    st.lists(
        st.sampled_from(["<p>", "</p>", "<h2>", "<pre>", "</pre>", "<li>", "a", " ", "\n", "&#0;", "&lt;", "é"]),
        max_size=30,
    )
)
def test_to_text_of_random_html_is_clean(pieces: list[str]):
    """No mark of ours, no trailing space, no two blank lines in a row."""
    try:
        text = to_text("".join(pieces).encode(), HTML)
    except Unreadable:
        return
    assert "\x00" not in text
    assert "\n\n\n" not in text
    text.encode()


@pytest.mark.parametrize(
    "given, expected",
    [
        ("", PLAIN),
        ("application/x-ndjson", JSONL),
        ("Text/HTML; charset=utf-8", HTML),
        ("text/markdown", "text/markdown"),
    ],
)
def test_check_mime_type_of_known_types_returns_the_bare_one(given: str, expected: str):
    """Parameters and case do not count."""
    assert check_mime_type(given) == expected


def test_check_mime_type_of_others_is_refused():
    """The known ones are named."""
    with pytest.raises(InvalidInput, match=r"image/png.* is not one of text/plain, text/markdown"):
        check_mime_type("image/png")


@pytest.mark.parametrize("mime_type", TEXT_FORMATS)
def test_to_text_that_is_too_long_names_the_limit(mime_type: str):
    """At the limit a text is taken, one byte more is not."""
    content = {JSONL: b'"abcd"', CSV: b"c\nabcd"}.get(mime_type, b"abcd")
    size = len(to_text(content, mime_type))
    assert to_text(content, mime_type, Limits(text_bytes_max=size, unpacked_bytes_max=1))
    problem = refused(content, mime_type, Limits(text_bytes_max=size - 1, unpacked_bytes_max=1))
    assert problem == f"its text is longer than text_bytes_max = {size - 1} bytes"
