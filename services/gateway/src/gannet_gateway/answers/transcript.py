"""What was said and cited so far."""

import time

from gannet_gateway.answers.events import Citation, Delta, Source
from gannet_gateway.answers.pieces import NO_ANSWER, Skipped
from gannet_gateway.clients import Cited, Done, Said
from gannet_gateway.search.query import Degradation, Passage
from gannet_service.errors import DependencyUnavailable


class Transcript:
    """What was said and cited so far; turns the generator's offsets into the answer's and the documents', and checks them."""

    def __init__(self, passages: tuple[Passage, ...]) -> None:
        self._passages = passages
        self._text = bytearray()
        self.citations: list[Citation] = []
        self.first_said_at = 0.0

    @property
    def text(self) -> str:
        """Everything said."""
        return self._text.decode()

    def take(self, piece: Said | Cited | Skipped) -> Delta | Citation | Degradation:
        """The event that a generator's piece becomes; raises DependencyUnavailable for one that cannot be."""
        match piece:
            case Said(text=text):
                return self.say(text)
            case Cited():
                return self.cite(piece)
            case Skipped(generator=name, reason=reason):
                return Degradation(stage=f"generator/{name}", reason=reason)

    def say(self, text: str) -> Delta:
        """Append a piece; raises DependencyUnavailable for an empty one."""
        if not text:
            raise _broken("an empty delta")
        self.first_said_at = self.first_said_at or time.perf_counter()
        delta = Delta(text=text, start_byte=len(self._text))
        self._text += text.encode()
        return delta

    def cite(self, cited: Cited) -> Citation:
        """Record a citation; raises DependencyUnavailable for one that points outside of the answer or its sources."""
        if not _is_span(self._text, cited.start_byte, cited.end_byte) or not cited.sources:
            raise _broken(f"a citation of bytes {cited.start_byte} to {cited.end_byte} of {len(self._text)}")
        sources = tuple(self._source(*span) for span in cited.sources)
        citation = Citation(start_byte=cited.start_byte, end_byte=cited.end_byte, sources=sources, score=cited.score)
        self.citations.append(citation)
        return citation

    def finish(self, done: Done) -> Done:
        """The generator's last word; raises DependencyUnavailable if it contradicts what was said."""
        if (done.reason == NO_ANSWER) != (not self._text):
            raise _broken(f"{done.reason} after {len(self._text)} bytes")
        return done

    def _source(self, index: int, start: int, end: int) -> Source:
        if not 0 <= index < len(self._passages):
            raise _broken(f"a citation of source {index} of {len(self._passages)}")
        candidate = self._passages[index].candidate
        if not _is_span(candidate.text.encode(), start, end):
            raise _broken(f"a citation of bytes {start} to {end}, outside of source {index}")
        return Source(passage_index=index, start_byte=candidate.start_byte + start, end_byte=candidate.start_byte + end)


def _is_span(data: bytes | bytearray, start: int, end: int) -> bool:
    """Whether bytes `start` to `end` of `data` are whole characters of it, at least one."""
    if not 0 <= start < end <= len(data):
        return False
    return data[start] & 0xC0 != 0x80 and (end == len(data) or data[end] & 0xC0 != 0x80)


def _broken(what: str) -> DependencyUnavailable:
    return DependencyUnavailable(f"generator: {what}", reason="GENERATOR_BROKEN")
