"""What a model writes, as it comes, without its source marks: "It dives [2]." is said as "It dives.", and the 2 is remembered.

Marks stand where a model puts them and are no part of the answer: citations say the same with bytes, and are verified.
"""

import re
from dataclasses import dataclass

NO_ANSWER_WORD = "NO_ANSWER"
# White space before a mark goes with it, so it waits for what follows; more than this is not held back.
_HELD_MAX = 64
_MARK = re.compile(r"\s*\[(\d{1,3}(?:\s*,\s*\d{1,3})*)\]")
_MARK_BEGINS = re.compile(r"\s*(?:\[[\d\s,]{0,40})?\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Sources, counted from 0, that the model names behind byte `end_byte` of what was said."""

    end_byte: int
    sources: tuple[int, ...]


class MarkedText:
    """Takes a model's pieces and gives what to say. Numbers that no source has stay in the text, and so does code between backticks."""

    def __init__(self, source_count: int) -> None:
        self.marks: list[Mark] = []
        self.declined = False
        self._source_count = source_count
        self._held = ""
        self._said_bytes = 0
        self._backticks = 0

    def feed(self, piece: str) -> str:
        """What can be said after `piece`; it may be nothing. After NO_ANSWER nothing more is."""
        self._held += piece
        if self._is_declining():
            return ""
        begins = _MARK_BEGINS.search(self._held)
        end = len(self._held) if begins is None or len(begins[0]) > _HELD_MAX else begins.start()
        body, self._held = self._held[:end], self._held[end:]
        return self._say(body)

    def finish(self) -> str:
        """What was held back, without white space at the end."""
        declined = self._is_declining() and self.declined
        body, self._held = self._held.rstrip(), ""
        return "" if declined else self._say(body)

    def _is_declining(self) -> bool:
        """Whether the answer may be, or is, the word that says that there is none."""
        if self._said_bytes:
            return False
        begun = self._held.strip()
        self.declined = self.declined or begun.startswith(NO_ANSWER_WORD)
        return self.declined or NO_ANSWER_WORD.startswith(begun)

    def _say(self, body: str) -> str:
        said: list[str] = []
        at = 0
        for match in _MARK.finditer(body):
            numbers = [int(number) for number in match[1].split(",")]
            in_code = (self._backticks + body.count("`", at, match.start())) % 2
            if in_code or not all(1 <= number <= self._source_count for number in numbers):
                continue
            self._keep(said, body[at : match.start()])
            self.marks.append(Mark(end_byte=self._said_bytes, sources=tuple(number - 1 for number in numbers)))
            at = match.end()
        self._keep(said, body[at:])
        return "".join(said)

    def _keep(self, said: list[str], text: str) -> None:
        said.append(text)
        self._said_bytes += len(text.encode())
        self._backticks += text.count("`")
