"""Texts to token ids: one padding-free sequence per text or pair."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from gannet_inference.errors import UnsupportedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenIds:
    """One sequence as a model reads it.

    Attributes:
        ids: i64[T], special tokens included.
        type_ids: i64[T], 0 for the first segment, 1 for the second.
        truncated: the text was longer than the model's limit and its end is not in `ids`.
    """

    ids: NDArray[np.int64]
    type_ids: NDArray[np.int64]
    truncated: bool

    @property
    def count(self) -> int:
        """The number of tokens, special tokens included."""
        return self.ids.shape[0]


class TextTokenizer:
    """A model's tokenizer with its length limit; safe to use from several threads, releases the GIL."""

    def __init__(self, tokenizer: Tokenizer, *, tokens_max: int) -> None:
        """Takes over the tokenizer: its padding is switched off and its truncation set."""
        tokenizer.no_padding()
        # For a pair, the longer side is cut first: a passage loses its end, a query of ordinary length loses nothing.
        tokenizer.enable_truncation(tokens_max, strategy="longest_first")
        self._tokenizer = tokenizer

    def encode(self, texts: list[str] | list[tuple[str, str]]) -> list[TokenIds]:
        """Tokenises texts or pairs, in order; an empty text is its special tokens alone."""
        encodings: list[Any] = self._tokenizer.encode_batch_fast(texts)
        return [
            TokenIds(
                ids=np.array(encoding.ids, dtype=np.int64),
                type_ids=np.array(encoding.type_ids, dtype=np.int64),
                truncated=bool(encoding.overflowing),
            )
            for encoding in encodings
        ]


def load_tokenizer(path: Path, *, model: str) -> Tokenizer:
    """Reads a `tokenizer.json`.

    Raises:
        UnsupportedModel: it is not one.
    """
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception for whatever is wrong with the file
        raise UnsupportedModel(model, path.name, f"not a tokenizer: {error}") from error
