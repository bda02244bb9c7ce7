"""A decoder without a model: its cache holds the tokens themselves, and a function of them says which comes next."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from reference.decoder import Shape, random_weights
from reference.decoder_graph import build
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from gannet_inference.decoder.request import Chunk
from gannet_inference.decoder.stream import Stream

END = 256
BYTES = 256
VOCABULARY = 300

Next = Callable[[tuple[int, ...]], int]


def byte_tokenizer() -> Tokenizer:
    """A token a byte, so that characters and stop strings are split across tokens; `<|end|>` is special."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({symbol: number for number, symbol in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|end|>", "<|start|>"])
    return tokenizer


class TokenCache:
    """The tokens of each slot."""

    def __init__(self, slots: int, positions: int) -> None:
        self.slots = slots
        self.positions = positions
        self.tokens = np.full((slots, positions), -1, dtype=np.int64)

    def address(self, part: int, slot: int) -> int:
        del part, slot
        raise AssertionError("there is no graph")

    def move(self, source: int, target: int, length: int) -> None:
        self.tokens[target, :length] = self.tokens[source, :length]


class TokenRunner:
    """Gives the token that `next_token` names for everything that a slot holds; records every run."""

    def __init__(self, cache: TokenCache, next_token: Next) -> None:
        self.cache = cache
        self.next_token = next_token
        self.runs: list[tuple[int, tuple[int, ...]]] = []
        self.failure: Exception | None = None

    def run(self, first: int, ids: np.ndarray[Any, Any], past: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        rows, width = ids.shape
        assert rows == 1 or width == 1, "GroupQueryAttention refuses several rows of several tokens behind a past"
        assert first + rows <= self.cache.slots
        self.runs.append((first, (rows, width)))
        if self.failure is not None:
            raise self.failure
        logits = np.full((rows, VOCABULARY), -10.0, dtype=np.float32)
        for row in range(rows):
            held = int(past[row]) + width
            self.cache.tokens[first + row, int(past[row]) : held] = ids[row]
            logits[row, self.next_token(tuple(self.cache.tokens[first + row, :held].tolist()))] = 10.0
        return logits


def reciting(tokenizer: Tokenizer, texts: Sequence[str]) -> Next:
    """A text for each prompt, chosen by the prompt's first token, then the end. A prompt is that token and `ask`'s length."""
    scripts = [[*tokenizer.encode(text).ids, END] for text in texts]

    def next_token(held: tuple[int, ...]) -> int:
        script = scripts[held[0]]
        return script[max(0, len(held) - held[1])]  # within the prompt nobody looks

    return next_token


def ask(number: int, length: int = 2) -> np.ndarray[Any, Any]:
    """A prompt for text `number` of `reciting`, of 2 to 255 tokens."""
    return np.array([number, length, *([7] * (length - 2))], dtype=np.int64)


class Reader:
    """Takes an engine's deliveries: chunks by stream, and how many deliveries there were."""

    def __init__(self) -> None:
        self.chunks: dict[Stream, list[Chunk]] = {}
        self.deliveries = 0

    def take(self, news: Sequence[tuple[Stream, Chunk]]) -> None:
        self.deliveries += 1
        for stream, chunk in news:
            self.chunks.setdefault(stream, []).append(chunk)

    def text(self, stream: Stream) -> str:
        return "".join(chunk.text for chunk in self.chunks.get(stream, []))

    def tokens(self, stream: Stream) -> list[int]:
        return [token.id for chunk in self.chunks.get(stream, []) for token in chunk.tokens]

    def last(self, stream: Stream) -> Chunk:
        chunks = self.chunks[stream]
        assert [chunk.is_last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
        return chunks[-1]


TEMPLATE = """{%- for message in messages -%}
<|start|>{{ message.role }}: {{ message.content }}<|end|>
{%- endfor -%}
{%- if messages and messages[0].content == 'refuse me' %}{{ raise_exception('refused') }}{% endif -%}
{%- if add_generation_prompt %}<|start|>assistant:{% endif %}"""


def write_folder(folder: Path, *, positions: int = 128) -> None:
    """A tiny random decoder as exporters leave it; its tokens are bytes, so most of what it says is no text."""
    shape = Shape(positions=positions)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(build(shape, random_weights(shape)), folder / "model.onnx")
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    config = {"eos_token_id": END, "max_position_embeddings": positions}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE, "eos_token": "<|end|>"}))


def manifest_of(folder: Path, *, tokens_max: int = 128) -> str:
    """A manifest that names it `tiny-writer`."""
    return f"""
[models.tiny-writer]
kind = "decoder"
source = {{ folder = "{folder}" }}
format = "onnx"
licence = "none"
precision = "fp32"
tokens_max = {tokens_max}
"""
