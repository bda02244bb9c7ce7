"""An answer as running text with footnote marks, put together while its events arrive."""

from dataclasses import dataclass

from gannet_client.search_types import Passage
from gannet_client.types import Citation, CitedSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Footnote:
    """A mark's number and what it points to; `quote` is the source's text from `start_byte` to `end_byte` of the document."""

    number: int
    document: str
    title: str
    start_byte: int
    end_byte: int
    quote: bytes

    @property
    def document_id(self) -> str:
        """The document's id in its collection."""
        return self.document.partition("/documents/")[2]


class FootnotedText:
    """Gives what to write next. White space at the end of a delta waits, so that a mark follows its sentence directly."""

    def __init__(self) -> None:
        self.footnotes: list[Footnote] = []
        self._passages: tuple[Passage, ...] = ()
        self._numbers: dict[CitedSource, int] = {}
        self._held = ""

    def retrieved(self, passages: tuple[Passage, ...]) -> None:
        """Take the passages that citations will point to."""
        self._passages = passages

    def delta(self, text: str) -> str:
        """What to write for a piece of text."""
        whole = self._held + text
        shown = whole.rstrip()
        self._held = whole[len(shown) :]
        return shown

    def citation(self, citation: Citation) -> str:
        """What to write for a citation: the marks of its sources. Each source has one number, in order of appearance."""
        numbers: list[int] = []
        for source in citation.sources:
            if source not in self._numbers:
                self._numbers[source] = len(self._numbers) + 1
                self.footnotes.append(self._footnote(source))
            numbers.append(self._numbers[source])
        return "".join(f"[{number}]" for number in numbers)

    def _footnote(self, source: CitedSource) -> Footnote:
        passage = self._passages[source.passage_index]
        start = source.start_byte - passage.start_byte
        return Footnote(
            number=self._numbers[source],
            document=passage.document,
            title=passage.title,
            start_byte=source.start_byte,
            end_byte=source.end_byte,
            quote=passage.text.encode()[start : source.end_byte - passage.start_byte],
        )
