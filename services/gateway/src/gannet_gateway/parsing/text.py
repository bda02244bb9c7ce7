"""What every format is turned into: text of bounded length. Imports nothing of the gateway, for the worker process's sake."""

from dataclasses import dataclass

_BLANK = "\ufeff \t\r\n\f\v"


class Unreadable(ValueError):
    """No text can be taken out of a content; the message says why, to whoever uploaded it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """`text_bytes_max` bounds the text of a document, UTF-8; `unpacked_bytes_max` what a packed one is unpacked to."""

    text_bytes_max: int
    unpacked_bytes_max: int


class TextBuffer:
    """Collects the pieces of a text and refuses the one that makes it too long."""

    def __init__(self, limits: Limits) -> None:
        self._pieces: list[str] = []
        self._bytes_left = limits.text_bytes_max
        self._limit = limits.text_bytes_max

    def add(self, piece: str) -> None:
        """Append `piece`, without what no UTF-8 text may hold.

        Raises:
            Unreadable: the text would be longer than text_bytes_max.
        """
        # Lone surrogates and NULs come out of broken fonts and escapes; offsets count in what is kept.
        encoded = piece.replace("\x00", "").encode("utf-8", errors="replace")
        self._bytes_left -= len(encoded)
        if self._bytes_left < 0:
            raise Unreadable(f"its text is longer than text_bytes_max = {self._limit} bytes")
        self._pieces.append(encoded.decode())

    def text(self) -> str:
        """All pieces."""
        return "".join(self._pieces)


def is_blank(text: str) -> bool:
    """Whether there is nothing to cut passages from."""
    return not text.strip(_BLANK) or text.isspace()
