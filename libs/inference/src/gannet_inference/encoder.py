"""Bi-encoders and cross-encoders: tokenise on the caller's thread, run one text at a time on the model's threads.

One text per run is on purpose: on a CPU a batch of one is about the fastest batch, nothing is padded, and since dynamic
int8 scales activations over the whole input, it is also what makes a text's vector independent of its neighbours.
"""

from collections.abc import Sequence
from functools import partial
from typing import Self

import numpy as np
from numpy.typing import NDArray

from gannet_inference.errors import ModelFailure, UnsupportedModel
from gannet_inference.lanes import Lane, PriorityExecutor, Work
from gannet_inference.manifest import Kind, Purpose
from gannet_inference.session import ModelSession
from gannet_inference.store import BuiltModel
from gannet_inference.tokens import TextTokenizer, TokenIds, load_tokenizer
from gannet_kernels import compile_all, mean_pool

QUEUE_MAX = 4096


class _Encoder:
    """What both kinds share: a session, a tokenizer and the threads in front of the session."""

    def __init__(
        self, built: BuiltModel, *, session: ModelSession, tokenizer: TextTokenizer, sessions: int, queue_max: int
    ) -> None:
        self.built = built
        self._session = session
        self._tokenizer = tokenizer
        self._executor = PriorityExecutor(name=built.name, threads=sessions, queue_max=queue_max)

    @classmethod
    def _open(cls, built: BuiltModel, kind: Kind, sessions: int, threads: int, queue_max: int) -> Self:
        if built.kind != kind:
            raise UnsupportedModel(built.name, "kind", f"is a {built.kind}, not a {kind}")
        tokenizer = TextTokenizer(load_tokenizer(built.tokenizer_file, model=built.name), tokens_max=built.tokens_max)
        session = ModelSession(built.model_file, model=built.name, threads=threads)
        compile_all()
        return cls(built, session=session, tokenizer=tokenizer, sessions=sessions, queue_max=queue_max)

    @property
    def execution_provider(self) -> str:
        """Where the graph runs, ONNX Runtime's name."""
        return self._session.execution_provider

    @property
    def waiting(self) -> int:
        """How much work waits for a session."""
        return self._executor.waiting

    def close(self) -> None:
        """Cancels what waits and lets what runs finish."""
        self._executor.close()


class BiEncoder(_Encoder):
    """Turns texts into dense vectors."""

    @classmethod
    def open(cls, built: BuiltModel, *, sessions: int, threads: int = 1, queue_max: int = QUEUE_MAX) -> Self:
        """Loads the model, compiles the kernels and runs one text.

        Args:
            built: a bi-encoder.
            sessions: texts read at once, >= 1.
            threads: cores per text, >= 1; side by side with one core each is the fastest use of several cores.
            queue_max: texts that may wait.

        Raises:
            UnsupportedModel: `built` is no bi-encoder, or its files cannot be loaded.
        """
        encoder = cls._open(built, "bi-encoder", sessions, threads, queue_max)
        encoder.encode(encoder.tokenize(["warm"], "query")[0])
        return encoder

    def tokenize(self, texts: Sequence[str], purpose: Purpose) -> list[TokenIds]:
        """Tokenises texts behind the model's prompt for the purpose; too long ones are cut and flagged."""
        prompt = self.built.prompts[purpose]
        return self._tokenizer.encode([prompt + text for text in texts])

    def encode(self, tokens: TokenIds) -> NDArray[np.float32]:
        """Runs the model on the calling thread.

        Returns:
            f32[D], of length 1 if the model normalises.

        Raises:
            ModelFailure: the model failed or gave NaN.
        """
        hidden = self._session.run(tokens)
        mask = np.ones(tokens.count, dtype=np.int64)
        if self.built.pooling == "cls":
            mask[1:] = 0
        vector = mean_pool(hidden, mask, self.built.normalise)
        if not np.isfinite(vector).all():
            raise ModelFailure(self.built.name, "last_hidden_state", "the model gave NaN or infinity")
        return vector

    def submit(self, tokens: TokenIds, lane: Lane = Lane.INTERACTIVE) -> Work[NDArray[np.float32]]:
        """Queues `encode`.

        Raises:
            QueueFull: no place is left.
        """
        return self._executor.submit(partial(self.encode, tokens), lane)

    def submit_all(self, batch: Sequence[TokenIds], lane: Lane = Lane.INTERACTIVE) -> list[Work[NDArray[np.float32]]]:
        """Queues `encode` for all of the texts or for none.

        Raises:
            QueueFull: there are fewer places left than texts.
        """
        return self._executor.submit_all([partial(self.encode, tokens) for tokens in batch], lane)


class CrossEncoder(_Encoder):
    """Scores passages against a query."""

    @classmethod
    def open(cls, built: BuiltModel, *, sessions: int, threads: int = 1, queue_max: int = QUEUE_MAX) -> Self:
        """Loads the model and runs one pair; arguments and errors as `BiEncoder.open`."""
        encoder = cls._open(built, "cross-encoder", sessions, threads, queue_max)
        encoder.score(encoder.tokenize("warm", ["warm"])[0])
        return encoder

    def tokenize(self, query: str, passages: Sequence[str]) -> list[TokenIds]:
        """Tokenises one pair per passage; a pair that is too long loses its passage's end and is flagged."""
        prompts = self.built.prompts
        return self._tokenizer.encode(
            [(prompts["query"] + query, prompts["passage"] + passage) for passage in passages]
        )

    def score(self, tokens: TokenIds) -> float:
        """Runs the model on the calling thread.

        Returns:
            The logit: unbounded, greater is better.

        Raises:
            ModelFailure: the model failed or gave NaN.
        """
        logit = float(self._session.run(tokens)[0])
        if not np.isfinite(logit):
            raise ModelFailure(self.built.name, "logits", "the model gave NaN or infinity")
        return logit

    def submit(self, tokens: TokenIds, lane: Lane = Lane.INTERACTIVE) -> Work[float]:
        """Queues `score`.

        Raises:
            QueueFull: no place is left.
        """
        return self._executor.submit(partial(self.score, tokens), lane)

    def submit_all(self, batch: Sequence[TokenIds], lane: Lane = Lane.INTERACTIVE) -> list[Work[float]]:
        """Queues `score` for all of the pairs or for none.

        Raises:
            QueueFull: there are fewer places left than pairs.
        """
        return self._executor.submit_all([partial(self.score, tokens) for tokens in batch], lane)
