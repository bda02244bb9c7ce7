"""Texts to token ids: one padding-free sequence per text or pair, or several windows of a pair that is too long."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from gannet_inference.errors import UnsupportedModel

# Which side of a text is left out when it is too long.
Side = Literal["end", "start"]
# Windows share a quarter: a sentence that one of them cuts in two is whole in the next.
_OVERLAP_SHARE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenIds:
    """One sequence as a model reads it.

    Attributes:
        ids: i64[T], special tokens included.
        type_ids: i64[T], 0 for the first segment, 1 for the second.
        truncated: the text was longer than the model's limit and one side of it is not in `ids`.
    """

    ids: NDArray[np.int64]
    type_ids: NDArray[np.int64]
    truncated: bool

    @property
    def count(self) -> int:
        """The number of tokens, special tokens included."""
        return self.ids.shape[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPieces:
    """A text's tokens, uncut, and where each stands in it.

    Attributes:
        ids: i64[T].
        tokens: the vocabulary's spelling of each.
        starts: i64[T], offset of the first byte in the text's UTF-8. Equal to `ends` for what the text does not hold: special
            tokens and a prompt's.
        ends: i64[T], offset behind the last byte.
        special: whether each was added by the tokenizer.
    """

    ids: NDArray[np.int64]
    tokens: Sequence[str]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    special: Sequence[bool]


class TextTokenizer:
    """A model's tokenizer with its length limit; safe to use from several threads, releases the GIL."""

    def __init__(self, tokenizer: Tokenizer, *, tokens_max: int) -> None:
        """Takes over the tokenizer: its padding is switched off and its truncation set."""
        tokenizer.no_padding()
        self._tokens_max = tokens_max
        self._cuts_end = tokenizer
        self._cut(tokenizer, "right")

    def encode(self, texts: list[str] | list[tuple[str, str]], side: Side = "end") -> list[TokenIds]:
        """Tokenises texts or pairs, in order; an empty text is its special tokens alone."""
        tokenizer = self._cuts_end if side == "end" else self._cuts_start
        encodings: list[Any] = tokenizer.encode_batch_fast(texts)
        return [_token_ids(encoding, truncated=bool(encoding.overflowing)) for encoding in encodings]

    def windows(self, first: str, second: str, windows_max: int) -> list[TokenIds]:
        """Tokenises a pair into windows over the second text, each with the whole first text before it.

        Args:
            first: read whole in every window. Where it takes more than half of the input there is one window, cut.
            second: cut into windows that overlap by a quarter.
            windows_max: >= 1; the last window is flagged `truncated` if the second text goes on behind it.
        """
        one: Any = self._whole.encode(first, add_special_tokens=False)
        room = self._tokens_max - self._whole.num_special_tokens_to_add(is_pair=True) - len(one.ids)
        if 2 * room < self._tokens_max:
            return self.encode([(first, second)])
        two: Any = self._whole.encode(second, add_special_tokens=False)
        two.truncate(room, stride=room // _OVERLAP_SHARE)
        parts: list[Any] = [two, *two.overflowing]
        # Joined part by part: the library's own joining of overflowing parts gives them the first text's type ids.
        return [
            _token_ids(self._whole.post_process(one, part), truncated=number == windows_max < len(parts))
            for number, part in enumerate(parts[:windows_max], start=1)
        ]

    def pieces(self, texts: Sequence[str], *, prompt: str = "", special: bool = True) -> list[TextPieces]:
        """Tokenises texts behind a prompt without cutting them, in order.

        Args:
            texts: what the offsets count in.
            prompt: put in front of each.
            special: add the model's special tokens.
        """
        encodings: list[Any] = self._whole.encode_batch([prompt + text for text in texts], add_special_tokens=special)
        return [_pieces(encoding, text, len(prompt)) for encoding, text in zip(encodings, texts, strict=True)]

    def decode(self, ids: Sequence[int], *, skip_special: bool) -> str:
        """The text that ids stand for; ids outside of the vocabulary stand for nothing."""
        return self._whole.decode(list(ids), skip_special_tokens=skip_special)

    # Made when first asked for: each takes 20 ms and 6 to 9 MB, and most processes need neither.

    @cached_property
    def _cuts_start(self) -> Tokenizer:
        tokenizer = Tokenizer.from_str(self._cuts_end.to_str())
        self._cut(tokenizer, "left")
        return tokenizer

    @cached_property
    def _whole(self) -> Tokenizer:
        tokenizer = Tokenizer.from_str(self._cuts_end.to_str())
        tokenizer.no_truncation()
        return tokenizer

    def _cut(self, tokenizer: Tokenizer, direction: str) -> None:
        # For a pair, the longer side is cut first: a passage loses its end, a query of ordinary length loses nothing.
        tokenizer.enable_truncation(self._tokens_max, strategy="longest_first", direction=direction)


def _token_ids(encoding: Any, *, truncated: bool) -> TokenIds:
    return TokenIds(
        ids=np.array(encoding.ids, dtype=np.int64),
        type_ids=np.array(encoding.type_ids, dtype=np.int64),
        truncated=truncated,
    )


def _pieces(encoding: Any, text: str, prompt_chars: int) -> TextPieces:
    offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2) - prompt_chars
    special = np.array(encoding.special_tokens_mask, dtype=np.bool_)
    offsets[special] = 0
    places = _byte_offsets(text)[offsets.clip(0, len(text))]
    return TextPieces(
        ids=np.array(encoding.ids, dtype=np.int64),
        tokens=encoding.tokens,
        starts=places[:, 0],
        ends=places[:, 1],
        special=special.tolist(),
    )


def _byte_offsets(text: str) -> NDArray[np.int64]:
    """i64[n + 1]: where each of the n characters begins in the text's UTF-8, and where the last one ends."""
    codes = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    sizes = 1 + (codes > 0x7F).astype(np.int64) + (codes > 0x7FF) + (codes > 0xFFFF)
    return np.concatenate(([0], np.cumsum(sizes)))


def load_tokenizer(path: Path, *, model: str) -> Tokenizer:
    """Reads a `tokenizer.json`.

    Raises:
        UnsupportedModel: it is not one.
    """
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception for whatever is wrong with the file
        raise UnsupportedModel(model, path.name, f"not a tokenizer: {error}") from error
