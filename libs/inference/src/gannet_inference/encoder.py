"""Bi-encoders and cross-encoders: tokenise on the caller's thread, run one text at a time on the model's threads.

One text per run is on purpose: on a CPU a batch of one is about the fastest batch, nothing is padded, and since dynamic
int8 scales activations over the whole input, it is also what makes a text's vector independent of its neighbours. On a GPU
the session itself gathers the texts of concurrent runs into batches.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from gannet_inference.errors import DeadlineHopeless, ModelFailure, UnsupportedModel
from gannet_inference.lanes import Lane, PriorityExecutor, Work
from gannet_inference.manifest import Kind, Purpose
from gannet_inference.pace import Pace
from gannet_inference.session import Gpu, Session, open_session
from gannet_inference.store import BuiltModel
from gannet_inference.tokens import Side, TextPieces, TextTokenizer, TokenIds, load_tokenizer
from gannet_kernels import cls_pool, compile_all, max_pool, mean_pool

QUEUE_MAX = 4096
# The model's threads yield to the event loop on the same cores: with equal shares, a flood of calls waits unread until their
# deadlines are over, and nobody is even refused (docs/adr/0028).
_NICENESS = 5

_POOL = {"mean": mean_pool, "cls": cls_pool, "max": max_pool}

R = TypeVar("R")


class _Encoder:
    """What both kinds share: a session, a tokenizer and the threads in front of the session."""

    def __init__(
        self,
        built: BuiltModel,
        *,
        session: Session,
        tokenizer: TextTokenizer,
        sessions: int,
        queue_max: int,
        beside: Self | None = None,
    ) -> None:
        self.built = built
        self._session = session
        self._tokenizer = tokenizer
        self._pace = Pace()
        self._executor = (
            PriorityExecutor(name=built.name, threads=sessions, queue_max=queue_max, niceness=_NICENESS)
            if beside is None
            else beside._executor  # noqa: SLF001 - another object of this very class
        )

    @classmethod
    def _open(
        cls,
        built: BuiltModel,
        kind: Kind,
        *,
        sessions: int,
        threads: int,
        queue_max: int,
        beside: Self | None,
        gpu: Gpu | None,
    ) -> Self:
        if built.kind != kind:
            raise UnsupportedModel(built.name, "kind", f"is a {built.kind}, not a {kind}")
        tokenizer = TextTokenizer(load_tokenizer(built.tokenizer_file, model=built.name), tokens_max=built.tokens_max)
        session = open_session(
            built.model_file, model=built.name, threads=threads, tokens_max=built.tokens_max, gpu=gpu
        )
        compile_all()
        return cls(built, session=session, tokenizer=tokenizer, sessions=sessions, queue_max=queue_max, beside=beside)

    @property
    def execution_provider(self) -> str:
        """Where the graph runs, ONNX Runtime's name."""
        return self._session.execution_provider

    @property
    def waiting(self) -> int:
        """How much work waits for a session, that of encoders beside this one included."""
        return self._executor.waiting

    def pieces(self, texts: Sequence[str], *, purpose: Purpose | None = None, special: bool = True) -> list[TextPieces]:
        """Tokenises texts for their tokens' sake, uncut; behind the model's prompt where a purpose is given."""
        prompt = "" if purpose is None else self.built.prompts[purpose]
        return self._tokenizer.pieces(texts, prompt=prompt, special=special)

    def decode(self, ids: Sequence[int], *, skip_special: bool) -> str:
        """The text that token ids stand for."""
        return self._tokenizer.decode(ids, skip_special=skip_special)

    def check_room(self, lane: Lane = Lane.INTERACTIVE, *, deadline_s: float | None = None) -> None:
        """Refuses work that `run_all` would refuse whatever its length, before it is tokenised.

        Raises:
            QueueFull: no place is left, or what waits in front would take too much of the time that the deadline leaves.
            DeadlineHopeless: the deadline has passed.
        """
        self._executor.check_room(lane, deadline_s=deadline_s)

    def run_all(
        self,
        read: Callable[[TokenIds], R],
        batch: Sequence[TokenIds],
        lane: Lane = Lane.INTERACTIVE,
        *,
        deadline_s: float | None = None,
    ) -> list[Work[R]]:
        """Queues `read` of all sequences or of none.

        Args:
            read: runs this model on one sequence.
            batch: the sequences.
            lane: the queue to wait in.
            deadline_s: the `time.monotonic()` instant after which nobody wants the results; None for no such instant. Work
                that turns out hopeless while it waits is not started, its result is DeadlineHopeless.

        Raises:
            QueueFull: there are fewer places left than sequences, or by the measured rate what waits in front would take too
                much of the time that the deadline leaves.
            DeadlineHopeless: by the measured rate, they would end too late if nothing waited in front.
        """
        try:
            return self._executor.submit_all(
                [partial(self._timed, read, tokens) for tokens in batch],
                lane,
                expected_s=[self._pace.expected_s(tokens.count) for tokens in batch],
                deadline_s=deadline_s,
            )
        except DeadlineHopeless:
            self._pace.refused()
            raise

    def close(self) -> None:
        """Cancels what waits and lets what runs finish, that of encoders beside this one included."""
        self._executor.close()

    def _timed(self, read: Callable[[TokenIds], R], tokens: TokenIds) -> R:
        started = time.monotonic()
        result = read(tokens)
        self._pace.measured(tokens.count, time.monotonic() - started)
        return result


class BiEncoder(_Encoder):
    """Turns texts into dense vectors."""

    @classmethod
    def open(
        cls,
        built: BuiltModel,
        *,
        sessions: int,
        threads: int = 1,
        queue_max: int = QUEUE_MAX,
        beside: Self | None = None,
        gpu: Gpu | None = None,
    ) -> Self:
        """Loads the model, compiles the kernels and runs one text.

        Args:
            built: a bi-encoder.
            sessions: texts read at once, >= 1.
            threads: cores per text, >= 1; side by side with one core each is the fastest use of several cores.
            queue_max: texts that may wait.
            beside: another encoder whose sessions and queue this one shares, in place of the two arguments above: two
                models with threads of their own would contend for the same cores.
            gpu: where to run; None for the CPU.

        Raises:
            UnsupportedModel: `built` is no bi-encoder, or its files cannot be loaded.
            DeviceUnavailable: the GPU cannot be used.
        """
        encoder = cls._open(
            built, "bi-encoder", sessions=sessions, threads=threads, queue_max=queue_max, beside=beside, gpu=gpu
        )
        encoder.encode(encoder.tokenize(["warm"], "query")[0])
        return encoder

    def tokenize(self, texts: Sequence[str], purpose: Purpose | None, side: Side = "end") -> list[TokenIds]:
        """Tokenises texts; too long ones are cut and flagged.

        Args:
            texts: what to tokenise.
            purpose: whose prompt to put in front; None for none.
            side: the side that a long text loses. At its start that is the prompt too.
        """
        prompt = "" if purpose is None else self.built.prompts[purpose]
        return self._tokenizer.encode([prompt + text for text in texts], side)

    def encode(self, tokens: TokenIds, *, normalise: bool | None = None) -> NDArray[np.float32]:
        """Runs the model on the calling thread.

        Args:
            tokens: one text.
            normalise: scale the vector to length 1; None for what the model is meant to do.

        Returns:
            f32[D].

        Raises:
            ModelFailure: the model failed or gave NaN.
        """
        return self._pool(self._session.run(tokens), normalise=normalise)

    def encode_tokens(
        self, tokens: TokenIds, *, normalise: bool | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Runs the model on the calling thread; arguments and errors as `encode`.

        Returns:
            The text's vector, f32[D], and the vectors of its tokens as the model gives them, f32[T, D], never normalised.
        """
        hidden = self._session.run(tokens)
        return self._pool(self._finite(hidden), normalise=normalise), hidden

    def _pool(self, hidden: NDArray[np.float32], *, normalise: bool | None) -> NDArray[np.float32]:
        normalise = self.built.normalise if normalise is None else normalise
        pooled = _POOL[self.built.pooling](hidden[np.newaxis], np.array([hidden.shape[0]]), normalise)
        return self._finite(pooled[0])

    def _finite(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        if not np.isfinite(values).all():
            raise ModelFailure(self.built.name, "last_hidden_state", "the model gave NaN or infinity")
        return values

    def submit(self, tokens: TokenIds, lane: Lane = Lane.INTERACTIVE) -> Work[NDArray[np.float32]]:
        """Queues `encode`.

        Raises:
            QueueFull: no place is left.
        """
        return self.run_all(self.encode, [tokens], lane)[0]

    def submit_all(self, batch: Sequence[TokenIds], lane: Lane = Lane.INTERACTIVE) -> list[Work[NDArray[np.float32]]]:
        """Queues `encode` for all of the texts or for none.

        Raises:
            QueueFull: there are fewer places left than texts.
        """
        return self.run_all(self.encode, batch, lane)


class CrossEncoder(_Encoder):
    """Scores passages against a query."""

    @classmethod
    def open(
        cls,
        built: BuiltModel,
        *,
        sessions: int,
        threads: int = 1,
        queue_max: int = QUEUE_MAX,
        beside: Self | None = None,
        gpu: Gpu | None = None,
    ) -> Self:
        """Loads the model and runs one pair; arguments and errors as `BiEncoder.open`."""
        encoder = cls._open(
            built, "cross-encoder", sessions=sessions, threads=threads, queue_max=queue_max, beside=beside, gpu=gpu
        )
        encoder.score(encoder.tokenize("warm", ["warm"])[0])
        return encoder

    def tokenize(self, query: str, passages: Sequence[str], side: Side = "end") -> list[TokenIds]:
        """Tokenises one pair per passage; a pair that is too long loses one side of its passage and is flagged."""
        return self._tokenizer.encode([self._pair(query, passage) for passage in passages], side)

    def tokenize_windows(self, query: str, passages: Sequence[str], windows_max: int) -> list[list[TokenIds]]:
        """Tokenises every passage into one pair, or into overlapping windows where one pair does not hold it.

        Args:
            query: read whole in every window.
            passages: what to tokenise.
            windows_max: windows of one passage, >= 1; the last is flagged `truncated` if the passage goes on behind it.
        """
        single = self.tokenize(query, passages)
        if windows_max == 1:
            return [[tokens] for tokens in single]
        return [
            self._tokenizer.windows(*self._pair(query, passage), windows_max) if tokens.truncated else [tokens]
            for passage, tokens in zip(passages, single, strict=True)
        ]

    def _pair(self, query: str, passage: str) -> tuple[str, str]:
        return self.built.prompts["query"] + query, self.built.prompts["passage"] + passage

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
        return self.run_all(self.score, [tokens], lane)[0]

    def submit_all(self, batch: Sequence[TokenIds], lane: Lane = Lane.INTERACTIVE) -> list[Work[float]]:
        """Queues `score` for all of the pairs or for none.

        Raises:
            QueueFull: there are fewer places left than pairs.
        """
        return self.run_all(self.score, batch, lane)
