"""JSON lines and comma-separated values as text."""

import pytest
from unit.gateway.parsing.test_formats import refused, to_text

from gannet_gateway.documents.chunking import chunk
from gannet_gateway.parsing.formats import CSV, JSONL


def test_to_text_of_csv_writes_a_block_a_row():
    """Every value stands behind its column's name, empty ones are left out, quotes and line breaks are the value's own."""
    content = '\ufeffgrad,županija, ,opis\r\nČakovec,Međimurska,x,"Leži ""gore"",\nna sjeveru."\r\nZagreb,,,\r\nSplit,a,b,c,d\r\n'
    assert to_text(content.encode(), CSV) == (
        'grad: Čakovec\nžupanija: Međimurska\ncolumn 3: x\nopis: Leži "gore",\nna sjeveru.\n\n'
        "grad: Zagreb\n\n"
        "grad: Split\nžupanija: a\ncolumn 3: b\nopis: c\ncolumn 5: d\n\n"
    )


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_to_text_of_csv_finds_the_delimiter(delimiter: str):
    """A Croatian spreadsheet writes semicolons."""
    content = delimiter.join(["a b", "c"]) + "\n" + delimiter.join(["1", "2"]) + "\n"
    assert to_text(content.encode(), CSV) == "a b: 1\nc: 2\n\n"


def test_to_text_of_broken_csv_names_the_line():
    """A quote that is not closed would swallow the rest of the file silently."""
    assert refused(b'a,b\n1,2\n3,"4\n5,6\n', CSV) == "not CSV at line 4: unexpected end of data"


def test_to_text_of_csv_without_rows_is_refused():
    """Names of columns are no text."""
    assert refused(b"a,b\n", CSV) == "the document has no text"


def test_to_text_of_jsonl_writes_a_block_a_line():
    """Members by name, nested ones by path; lists of plain values on one line; null and empty values are left out."""
    content = (
        b'{"title": "A", "n": 1.5, "ok": true, "none": null, "by": {"name": "X", "tags": ["p", "q"]}}\n\n'
        b'{"parts": [{"t": "one"}, {"t": "two"}]}\r\n"just words"\n'
    )
    assert to_text(content, JSONL) == (
        "title: A\nn: 1.5\nok: true\nby.name: X\nby.tags: p, q\n\nparts.t: one\nparts.t: two\n\njust words\n\n"
    )


@pytest.mark.parametrize(
    "line, problem",
    [
        (b'{"a": }', "not JSON at line 2: Expecting value"),
        (b"9" * 5000, "not JSON at line 2: Exceeds the limit"),
        (b"[" * 100_000 + b"]" * 100_000, "line 2 is nested too deeply"),
    ],
)
def test_to_text_of_broken_jsonl_names_the_line(line: bytes, problem: str):
    """Also for numbers and depths that are JSON and no computer's."""
    assert refused(b'{"a": 1}\n' + line, JSONL).startswith(problem)


def test_to_text_of_a_lone_surrogate_is_utf8():
    """JSON can name half a character and NUL, a text cannot hold them."""
    assert to_text(b'{"a": "x\\ud83d\\u0000y"}', JSONL) == "a: x?y\n\n"


@pytest.mark.parametrize("mime_type", [CSV, JSONL])
def test_passages_of_rows_are_bytes_of_their_text(mime_type: str):
    """Offsets count in the text that was made of the rows, and rows are where it is cut first."""
    rows = [f"č{number} je grad. Ima reku" for number in range(50)]
    lines = (
        [f'{{"a": "{row}", "b": "x"}}' for row in rows]
        if mime_type == JSONL
        else ["a,b", *(f"{row},x" for row in rows)]
    )
    text = to_text("\n".join(lines).encode(), mime_type)
    pieces = chunk(text, size=200, overlap=0)
    assert [text.encode()[piece.start_byte : piece.end_byte].decode() for piece in pieces] == [p.text for p in pieces]
    assert len(pieces) > 5
