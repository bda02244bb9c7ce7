import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import chunking as reference

from gannet_gateway.documents.chunking import Chunk, chunk, first_heading

# Pieces that boundaries are made of, so that random texts have headings, lists, code and sentences.
PIECES = st.sampled_from(
    [
        "# Title\n", "## Part č\n", "Chapter\n=======\n", "Section\n---\n", "One. ", "Two two? ", "Tri čćž! ", "e.g. this ",
        "word ", "\n", "\n\n", "- item\n", "1. item\n", "    code()\n", "日本語。", "😀", "x" * 37, " ", "\ufeff", "\t", "\u00a0",
    ]
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=60).map("".join) | st.text(max_size=300)
SIZES = st.integers(1, 120)
BLANK = " \t\r\n\f\v\ufeff"


@given(TEXTS, SIZES, st.data())
def test_chunk_of_any_text_keeps_bytes_bounds_and_order(text: str, size: int, data: st.DataObject):
    """Spans are the text's own bytes, within the size, ascending; nothing but white space is left out."""
    overlap = data.draw(st.integers(0, size - 1))
    encoded = text.encode()
    chunks = chunk(text, size=size, overlap=overlap)
    covered = bytearray(len(encoded))
    for piece in chunks:
        assert encoded[piece.start_byte : piece.end_byte].decode() == piece.text
        assert piece.text.strip(BLANK)
        assert len(piece.text) <= size
        covered[piece.start_byte : piece.end_byte] = b"\x01" * (piece.end_byte - piece.start_byte)
    left_out = bytes(byte for byte, seen in zip(encoded, covered, strict=True) if not seen)
    assert left_out.decode().strip(BLANK) == ""
    for before, after in itertools.pairwise(chunks):
        assert before.start_byte < after.start_byte
        assert before.end_byte < after.end_byte


@given(TEXTS, SIZES, st.data())
def test_chunk_of_any_text_is_what_looking_at_every_line_gives(text: str, size: int, data: st.DataObject):
    """Boundaries, bytes and headings are those of the plain way."""
    overlap = data.draw(st.integers(0, size - 1))
    assert reference.chunk(text, size=size, overlap=overlap) == chunk(text, size=size, overlap=overlap)
    assert reference.first_heading(text) == first_heading(text)


@pytest.mark.parametrize(
    "text",
    [
        "# Title\n=======\nText.",
        "- item\n------\nText.",
        "===\n---\nText.",
        "Title\n=====\n=====\nText.",
        "\n===\nText.",
        " Title\n=====\nText.",
        "Title\n===\nText.",
        "Title\n=====",
        "Text.\n   ",
    ],
)
def test_chunk_of_lines_that_look_like_headings_is_what_looking_at_every_line_gives(text: str):
    """A heading is not underlined again, and not every line above an underline is one."""
    for size in (9, 18):
        assert reference.chunk(text, size=size, overlap=0) == chunk(text, size=size, overlap=0)
    assert reference.first_heading(text) == first_heading(text)


@given(TEXTS, SIZES, st.data())
def test_chunk_overlap_is_bounded_and_stays_in_its_section(text: str, size: int, data: st.DataObject):
    """At most `overlap` characters are repeated, and never across a heading."""
    overlap = data.draw(st.integers(0, size - 1))
    encoded = text.encode()
    chunks = chunk(text, size=size, overlap=overlap)
    for before, after in itertools.pairwise(chunks):
        repeated = encoded[after.start_byte : before.end_byte].decode()
        assert len(repeated) <= overlap
        assert not re.search(r"^#{1,6}[ \t]+\S", repeated, re.MULTILINE)


@given(TEXTS, SIZES)
def test_chunk_without_overlap_repeats_nothing(text: str, size: int):
    """Each byte is in one chunk at most."""
    chunks = chunk(text, size=size, overlap=0)
    assert all(before.end_byte <= after.start_byte for before, after in itertools.pairwise(chunks))


def test_chunk_of_sections_begins_at_headings():
    """A section that is large enough never shares a chunk with the next; each chunk knows the heading above."""
    text = "# One\n" + "First sentence here. " * 5 + "\n\n## Two\n" + "Second part here. " * 5
    chunks = chunk(text, size=120, overlap=0)
    assert [piece.heading for piece in chunks] == ["One", "Two"]
    assert [piece.text.split("\n")[0] for piece in chunks] == ["# One", "## Two"]


def test_chunk_of_underlined_headings_knows_them():
    """reStructuredText: a title with its underline."""
    text = "Yield expressions\n=================\n\nUsed when defining a generator. " + "It is long enough. " * 6
    (first, *_) = chunk(text, size=100, overlap=0)
    assert first.heading == "Yield expressions"
    assert first_heading(text) == "Yield expressions"


def test_chunk_of_sentences_ends_at_their_ends():
    """Abbreviations and initials end no sentence."""
    text = "Dr. Smith et al. wrote e.g. This. Then J. R. Tolkien came. Last one."
    chunks = chunk(text, size=35, overlap=0)
    assert [piece.text for piece in chunks] == [
        "Dr. Smith et al. wrote e.g. This.",
        "Then J. R. Tolkien came. Last one.",
    ]


def test_chunk_with_overlap_repeats_whole_sentences():
    """What is repeated is a sentence of the section, not a piece of one."""
    chunks = chunk("Aaaa aaaa. Bbbb bbbb. Cccc cccc. Dddd dddd.", size=22, overlap=11)
    assert [piece.text for piece in chunks] == [
        "Aaaa aaaa. Bbbb bbbb.",
        "Bbbb bbbb. Cccc cccc.",
        "Cccc cccc. Dddd dddd.",
    ]


def test_chunk_of_a_blank_text_is_empty():
    """White space and byte order marks are no passage."""
    assert chunk(" \n\ufeff\t", size=10, overlap=0) == []
    assert chunk("", size=10, overlap=0) == []


def test_chunk_of_one_long_word_cuts_it():
    """A word longer than a chunk is cut where it must be."""
    assert chunk("x" * 25, size=10, overlap=5) == [
        Chunk(text="x" * 10, start_byte=0, end_byte=10, heading=""),
        Chunk(text="x" * 10, start_byte=10, end_byte=20, heading=""),
        Chunk(text="x" * 5, start_byte=20, end_byte=25, heading=""),
    ]


def test_first_heading_of_prose_is_empty():
    """No heading, no title."""
    assert first_heading("Just a sentence. And another.") == ""
