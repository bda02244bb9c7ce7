"""Real encoders over a session that waits for the test: nothing is timed, everything is released."""

import queue
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gannet_inference.encoder import BiEncoder, CrossEncoder
from gannet_inference.errors import ModelFailure
from gannet_inference.store import BuiltModel
from gannet_inference.tokens import Side, TokenIds

WAIT_S = 30.0
DIM = 4


class CharTokenizer:
    """One token per character; of a pair, the second text's."""

    def __init__(self, *, tokens_max: int = 512) -> None:
        """Cuts texts after so many characters."""
        self._tokens_max = tokens_max

    def encode(self, texts: list[str] | list[tuple[str, str]], side: Side = "end") -> list[TokenIds]:
        """Tokenises as `TextTokenizer.encode` does."""
        second = [text if isinstance(text, str) else text[1] for text in texts]
        cut = slice(self._tokens_max) if side == "end" else slice(-self._tokens_max, None)
        return [_token_ids(text[cut], truncated=len(text) > self._tokens_max) for text in second]

    def windows(self, first: str, second: str, windows_max: int) -> list[TokenIds]:
        """Cuts as `TextTokenizer.windows` does, without an overlap."""
        del first
        parts = [second[at : at + self._tokens_max] for at in range(0, len(second), self._tokens_max)]
        return [
            _token_ids(part, truncated=number == windows_max < len(parts))
            for number, part in enumerate(parts[:windows_max], start=1)
        ]


def _token_ids(text: str, *, truncated: bool) -> TokenIds:
    return TokenIds(ids=np.array([*map(ord, text)]), type_ids=np.zeros(len(text), np.int64), truncated=truncated)


class GatedSession:
    """A model that runs when `gate` is set; a text with "!" makes it fail at once, one with "?" is a bug.

    Attributes:
        gate: set it to let every run go on.
        started: texts whose run has started, in order.
    """

    execution_provider = "FakeExecutionProvider"

    def __init__(self, *, pairs: bool) -> None:
        """Gives token embeddings, or one logit for pairs: the number of tokens."""
        self.gate = threading.Event()
        self.started: queue.Queue[str] = queue.Queue()
        self._pairs = pairs

    def run(self, tokens: TokenIds) -> NDArray[np.float32]:
        """Runs one sequence as `ModelSession.run` does."""
        text = "".join(map(chr, tokens.ids))
        self.started.put(text)
        if "!" in text:
            raise ModelFailure("fake", "run", "told to fail")
        if not self.gate.wait(WAIT_S):
            raise TimeoutError("the test never opened the gate")
        if "?" in text:
            raise ZeroDivisionError("a bug")
        return np.full(1, tokens.count, np.float32) if self._pairs else np.ones((tokens.count, DIM), np.float32)

    def started_so_far(self) -> list[str]:
        """What has started since the last time of asking."""
        return [self.started.get_nowait() for _ in range(self.started.qsize())]


def bi_encoder(session: GatedSession, *, queue_max: int, beside: BiEncoder | None = None) -> BiEncoder:
    """A bi-encoder that reads one text at a time."""
    built = _built("bi-encoder")
    return BiEncoder(built, session=session, tokenizer=CharTokenizer(), sessions=1, queue_max=queue_max, beside=beside)


def cross_encoder(session: GatedSession, *, queue_max: int, tokens_max: int = 512) -> CrossEncoder:
    """A cross-encoder that reads one pair at a time."""
    tokenizer = CharTokenizer(tokens_max=tokens_max)
    return CrossEncoder(_built("cross-encoder"), session=session, tokenizer=tokenizer, sessions=1, queue_max=queue_max)


def _built(kind: str) -> BuiltModel:
    return BuiltModel(
        path=Path(),
        name="fake",
        kind=kind,
        precision="fp32",
        digest="0" * 64,
        dim=DIM,
        tokens_max=512,
        pooling="mean",
        normalise=True,
        prompts={"query": "", "passage": ""},
        licence="none",
    )
