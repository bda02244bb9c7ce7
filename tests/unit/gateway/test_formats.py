import pytest
from hypothesis import given
from hypothesis import strategies as st

from gannet_gateway.documents.chunking import chunk
from gannet_gateway.documents.formats import HTML, HTML_DEPTH_MAX, MIME_TYPES, PLAIN, check_mime_type, to_text
from gannet_service.errors import InvalidInput


def refused(content: bytes, mime_type: str = PLAIN) -> InvalidInput:
    """Why a content is not taken."""
    with pytest.raises(InvalidInput) as caught:
        to_text(content, mime_type)
    return caught.value


@pytest.mark.parametrize("mime_type", [kind for kind in MIME_TYPES if kind != HTML])
def test_to_text_of_text_formats_is_the_upload(mime_type: str):
    """Offsets count in the upload itself: not a byte is changed."""
    content = "\ufeff# Naslov\r\n\r\nČ  ć\t😀 <b>&amp;</b>".encode()
    assert to_text(content, mime_type).encode() == content


@pytest.mark.parametrize("content", [b"", b" \n\t", "\ufeff \u00a0".encode()[:4], b"\xe2\x80\xa8\r\n"])
@pytest.mark.parametrize("mime_type", MIME_TYPES)
def test_to_text_without_text_is_refused(content: bytes, mime_type: str):
    """White space is no document."""
    assert (refused(content, mime_type).message, refused(content, mime_type).field) == (
        "content: the document has no text",
        "content",
    )


@given(st.text(alphabet=" \n\t\ufeff\u00a0\u2028\x1c\u200b.a", max_size=6))
def test_to_text_that_is_taken_has_passages(text: str):
    """Whatever passes the check gives at least one passage."""
    try:
        taken = to_text(text.encode(), PLAIN)
    except InvalidInput:
        return
    assert chunk(taken, size=100, overlap=0)


@pytest.mark.parametrize("mime_type", MIME_TYPES)
def test_to_text_of_binary_is_refused(mime_type: str):
    """A NUL byte is in every image and archive, and in no text."""
    assert refused(b"PK\x03\x04\x00\x00", mime_type).message.startswith("content: a binary file")


def test_to_text_of_invalid_utf8_names_the_byte():
    """The caller finds the place."""
    assert refused(b"good \xff").message == "content: not valid UTF-8 at byte 5"


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
    assert refused(b"<div>" * deep + b"x", HTML).message.endswith(f"deeper than {HTML_DEPTH_MAX} elements")


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
    except InvalidInput as error:
        assert error.field == "content"  # noqa: PT017 - either outcome is right
        return
    assert "\x00" not in text
    assert "\n\n\n" not in text
    text.encode()


@pytest.mark.parametrize(
    "given, expected", [("", PLAIN), ("Text/HTML; charset=utf-8", HTML), ("text/markdown", "text/markdown")]
)
def test_check_mime_type_of_known_types_returns_the_bare_one(given: str, expected: str):
    """Parameters and case do not count."""
    assert check_mime_type(given) == expected


def test_check_mime_type_of_others_is_refused():
    """The known ones are named."""
    with pytest.raises(InvalidInput, match=r"application/pdf.* is not one of text/plain, text/markdown"):
        check_mime_type("application/pdf")
