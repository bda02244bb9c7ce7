"""Tokens to text as they come: whole characters only, and nothing that may become a stop string."""

import re

from tokenizers import Tokenizer

# A character has at most four bytes, each at worst a token of its own; whatever is still no character then never becomes one.
_HELD_MAX = 8
_REPLACEMENT = "�"
_FALLBACK = re.compile(r"<0x([0-9A-F]{2})>")


class Detokeniser:
    """The text of a growing list of tokens; special tokens have none.

    Decoders of tokenizers look at what is before a token, so a token is decoded together with those before it back to the
    last place where text was given out, and the text of these is taken away.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Starts with no token."""
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._known = 0
        self._known_text = ""

    def add(self, token: int) -> str:
        """The text that is complete with this token; empty while a character's bytes are missing."""
        self._ids.append(token)
        text = self._decode(self._ids)
        held = len(self._ids) - self._known
        if len(text) <= len(self._known_text) or (text.endswith(_REPLACEMENT) and held < _HELD_MAX):
            if held >= _HELD_MAX:  # tokens without text, which the next one need not be decoded with
                self._forget()
            return ""
        new = text[len(self._known_text) :]
        self._forget()
        return new

    def _forget(self) -> None:
        self._ids = self._ids[self._known :]
        self._known = len(self._ids)
        self._known_text = self._decode(self._ids)

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=True)


class StopStrings:
    """Looks for the first stop string in a growing text."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        """Takes the strings; none lets everything through."""
        self._stops = stops
        self._held = ""

    def add(self, text: str) -> tuple[str, bool]:
        """What may be given out now, and whether a stop string ends it; after that nothing may be added."""
        if not self._stops:
            return text, False
        text = self._held + text
        found = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if found:
            self._held = ""
            return text[: min(found)], True
        held = max(_overlap(text, stop) for stop in self._stops)
        self._held = text[len(text) - held :]
        return text[: len(text) - held], False

    def flush(self) -> str:
        """What was held back, when the text ends otherwise."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest beginning of `stop` that `text` ends with."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)


class TokenBytes:
    """What each token of a vocabulary stands for, in bytes: a token may be part of a character."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Finds out how the tokenizer spells bytes: as byte-level BPE does, or as sentencepiece."""
        self._tokenizer = tokenizer
        self._byte_of = _byte_alphabet() if '"type":"ByteLevel"' in tokenizer.to_str().replace(" ", "") else {}

    def __call__(self, token: int) -> bytes:
        """The token's bytes; none for an id that the vocabulary does not have."""
        spelling = self._tokenizer.id_to_token(token) or ""
        if self._byte_of and all(symbol in self._byte_of for symbol in spelling):
            return bytes(self._byte_of[symbol] for symbol in spelling)
        if match := _FALLBACK.fullmatch(spelling):
            return bytes([int(match[1], 16)])
        return spelling.replace("▁", " ").encode()


def _byte_alphabet() -> dict[str, int]:
    """Byte-level BPE's letter for each byte: the byte itself where it is printable, else the next free one from 256 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}
