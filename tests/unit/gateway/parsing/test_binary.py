"""PDF and Word documents as text."""

import io
import zipfile

import pytest
from fakes.files import pdf, word
from unit.gateway.parsing.test_formats import refused, to_text

from gannet_gateway.parsing.formats import DOCX, PDF
from gannet_gateway.parsing.text import Limits


def test_to_text_of_pdf_is_its_pages():
    """Line by line; a blank line between two pages, none for a page without text."""
    content = pdf([["Gannets dive.", "Deep, \xe9t\xe9."], [], ["Second page."]])
    assert to_text(content, PDF) == "Gannets dive.\nDeep, été.\n\nSecond page.\n"


def test_to_text_of_an_encrypted_pdf_is_refused():
    """What needs a password is refused; what opens without one is read, however its printing is restricted."""
    content = pdf([["Secret."]], passwords=("user", "owner"))
    assert refused(content, PDF) == "the PDF is encrypted; upload it without a password"
    open_one = pdf([["Open."]], passwords=("", "owner"))
    assert to_text(open_one, PDF) == "Open.\n"


def test_to_text_of_a_scan_says_what_is_missing():
    """Pages without any text are pictures of text."""
    expected = "the PDF has no text on its 2 pages (a scan?); text recognition has to be done before"
    assert refused(pdf([[], []]), PDF) == expected


def test_to_text_of_docx_is_its_blocks_in_order():
    """Headings as heading lines, list items and tables on lines of their own."""
    content = word(
        ("Title", "Gannets"),
        ("", "They dive.\nDeep."),
        ("Heading 2", "Where"),
        ("List Bullet", "Atlantic"),
        [["place", "count"], ["Bass\nRock", "75000"], ["", ""]],
        ("", "  "),
        ("", "End."),
    )
    assert to_text(content, DOCX) == (
        "# Gannets\n\nThey dive.\nDeep.\n\n## Where\n\n- Atlantic\n\nplace | count\nBass Rock | 75000\n\nEnd.\n\n"
    )


def test_to_text_of_an_empty_docx_is_refused():
    """As of every format."""
    assert refused(word(), DOCX) == "the document has no text"


def test_to_text_of_a_zip_bomb_is_refused_before_it_is_unpacked():
    """60 MB of nothing in 60 kB; the limit is named."""
    file = io.BytesIO(word(("", "x")))
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/media/bomb.png", bytes(60 << 20))
    assert len(file.getvalue()) < 200_000
    problem = refused(file.getvalue(), DOCX, Limits(text_bytes_max=1 << 20, unpacked_bytes_max=50 << 20))
    assert problem.endswith(f"the limit is unpacked_bytes_max = {50 << 20}")


def test_to_text_of_what_is_no_docx_is_refused():
    """An encrypted .docx is no ZIP archive either."""
    assert refused(b"\xd0\xcf\x11\xe0 an old one", DOCX).startswith("not a .docx file")


@pytest.mark.parametrize("content, kind", [(pdf([["word " * 20] * 9]), PDF), (word(*[("", "word " * 20)] * 9), DOCX)])
def test_to_text_of_more_than_the_limit_is_refused(content: bytes, kind: str):
    """The limit is on what comes out, not on what came in."""
    assert refused(content, kind, Limits(text_bytes_max=500, unpacked_bytes_max=1 << 20)) == (
        "its text is longer than text_bytes_max = 500 bytes"
    )
