"""Answers as running text."""

from hypothesis import given
from hypothesis import strategies as st

from gannet_client.footnotes import FootnotedText
from gannet_client.search_types import Passage, Scores
from gannet_client.types import Citation, CitedSource


def passage(text: str, start_byte: int = 0) -> Passage:
    """A passage of document d."""
    return Passage(
        name="tenants/t/collections/c/documents/d/chunks/0",
        document="tenants/t/collections/c/documents/d",
        revision=1,
        text=text,
        start_byte=start_byte,
        end_byte=start_byte + len(text.encode()),
        title="D",
        metadata={},
        scores=Scores(final=1.0),
    )


def citation(*sources: tuple[int, int]) -> Citation:
    """A citation of spans of the first passage."""
    cited = tuple(CitedSource(passage_index=0, start_byte=start, end_byte=end) for start, end in sources)
    return Citation(start_byte=0, end_byte=1, sources=cited, score=1.0)


def test_footnoted_text_mark_follows_its_sentence():
    """White space after a sentence is written after its mark."""
    text = FootnotedText()
    text.retrieved((passage("Ü b. C d.", start_byte=10),))

    written = (
        text.delta("Ü b. ")
        + text.citation(citation((10, 15)))
        + text.delta("C d.\n")
        + text.citation(citation((16, 20)))
    )
    assert written == "Ü b.[1] C d.[2]"
    assert [note.quote.decode() for note in text.footnotes] == ["Ü b.", "C d."]
    assert text.footnotes[0].document_id == "d"


def test_footnoted_text_same_source_has_one_number():
    """A source that is cited twice keeps its footnote."""
    text = FootnotedText()
    text.retrieved((passage("A b. C d."),))

    assert text.citation(citation((0, 4), (5, 9))) == "[1][2]"
    assert text.citation(citation((5, 9))) == "[2]"
    assert len(text.footnotes) == 2


@given(st.lists(st.text(min_size=1)))
def test_footnoted_text_without_citations_is_the_text(deltas):
    """Only white space at the very end is held back."""
    text = FootnotedText()

    assert "".join(map(text.delta, deltas)) == "".join(deltas).rstrip()
