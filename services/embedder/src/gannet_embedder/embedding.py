"""Texts to vectors: tokenise and weigh, embed on the model's threads, and wait for both without blocking.

Long texts are tokenised on a thread of their own.

Every step waits in the caller's lane, so a query passes a bulk batch at each of them. Whoever leaves takes the work that has
not started along.
"""

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TypeVar

import numpy as np
import structlog
from numpy.typing import NDArray

from gannet_embedder.dense import DenseType, DenseVector, packed, shortened
from gannet_inference.encoder import BiEncoder
from gannet_inference.errors import DeadlineHopeless, ModelFailure, QueueFull
from gannet_inference.lanes import Lane, PriorityExecutor
from gannet_inference.manifest import Purpose
from gannet_inference.store import BuiltModel
from gannet_inference.tokens import Side, TextPieces, TokenIds
from gannet_lexical.sparse import Bm25Encoder, SparseVector
from gannet_service.errors import DeadlineTooShort, GannetError, InternalError, InvalidInput, Overloaded

# Texts prepared in one go: a query waits for at most one such slice of a bulk batch (about 2 ms), and 256 texts cost 32 handovers.
_SLICE_TEXTS = 8
# Texts of so many characters together are prepared on the event loop: that takes 40 to 150 µs, a handover to another thread 120.
_INLINE_CHARS_MAX = 1024

R = TypeVar("R")

_log: structlog.stdlib.BoundLogger = structlog.get_logger("embedder")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextBatch:
    """What one call wants embedded.

    Attributes:
        texts: the texts, each within the limits.
        purpose: selects the prompt and the BM25 weighting; None means no prompt, and a passage's weights.
        lane: which queue the work waits in.
        want_dense: make dense vectors.
        want_sparse: make BM25 vectors.
        want_tokens: give the vectors of the tokens.
        language: ISO 639-1, of the stemmer and the stop words; one of `sparse.LANGUAGES`.
        average_length: BM25's mean passage length, in terms, > 0.
        side: which side a text loses that is too long for the model.
        refuse_long: rather refuse the batch than cut a text.
        dims: components of dense vectors, 1 to the model's; None for all.
        dense_type: how dense vectors are written.
        normalise: scale dense vectors to length 1; None for what the model is meant to do.
        deadline_s: the `time.monotonic()` instant at which the caller stops waiting; None for no such instant.
    """

    texts: Sequence[str]
    purpose: Purpose | None
    lane: Lane
    want_dense: bool = False
    want_sparse: bool = False
    want_tokens: bool = False
    language: str = "en"
    average_length: float
    side: Side = "end"
    refuse_long: bool = False
    dims: int | None = None
    dense_type: DenseType = "float32"
    normalise: bool | None = None
    deadline_s: float | None = None

    @property
    def wants_model(self) -> bool:
        """Whether the model has to read the texts."""
        return self.want_dense or self.want_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class TextVectors:
    """What became of one text: the vectors asked for, or the error of this text alone. `token_vectors` is f32[T, D]."""

    dense: DenseVector | None = None
    sparse: SparseVector | None = None
    token_vectors: NDArray[np.float32] | None = None
    token_count: int = 0
    truncated: bool = False
    error: GannetError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """One `TextVectors` per text, in order, and where the time went."""

    results: Sequence[TextVectors]
    queue_s: float = 0.0
    tokenize_s: float = 0.0
    inference_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """A slice of texts, tokenised and weighed; a list is empty where its vectors were not asked for."""

    tokens: list[TokenIds]
    sparse: list[SparseVector]
    tokenize_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """What the model made of one text."""

    dense: DenseVector | None
    token_vectors: NDArray[np.float32] | None


class TextEmbedder:
    """One model, its BM25 encoders, and the one thread that tokenises and weighs what is long."""

    def __init__(self, encoder: BiEncoder, *, queue_texts_max: int) -> None:
        """Takes over the encoder.

        Args:
            encoder: the dense model.
            queue_texts_max: slices that may wait to be tokenised: a call of one text has a slice of its own.
        """
        self._encoder = encoder
        # Made when first asked for: an encoder is 2 MiB, and there are 34 languages.
        self._bm25 = functools.cache(Bm25Encoder)
        # One thread: tokenising and weighing a text take a hundredth of the model's time.
        self._preparing = PriorityExecutor(name="prepare", threads=1, queue_max=queue_texts_max)

    @property
    def built(self) -> BuiltModel:
        """What the model is."""
        return self._encoder.built

    @property
    def execution_provider(self) -> str:
        """Where the model runs, ONNX Runtime's name."""
        return self._encoder.execution_provider

    def check_room(self, lane: Lane, deadline_s: float | None) -> None:
        """Refuses, at next to no cost, what `embed` would refuse however short the text.

        Raises:
            Overloaded: no place is left, or what waits in front takes too much of the time until the deadline.
        """
        try:
            self._encoder.check_room(lane, deadline_s=deadline_s)
        except (QueueFull, DeadlineHopeless) as error:
            raise _refusal(error) from error

    async def embed(self, batch: TextBatch) -> Embedded:
        """Embed the texts of `batch`, a model's failure on one of them being that text's own. Cancelling drops what has not started.

        Raises:
            Overloaded: the batch does not fit into a queue, or the queue is too long for the deadline.
            DeadlineTooShort: by the measured rate, the last text would come after the deadline; nothing more is begun.
            InvalidInput: a text is too long for the model, and the batch says to refuse that.
        """
        if batch.wants_model and batch.texts:
            # Before the texts are tokenised: messages of a stream come straight here.
            self.check_room(batch.lane, batch.deadline_s)
        prepared = await self._prepare(batch)
        if batch.refuse_long and any(tokens.truncated for tokens in prepared.tokens):
            raise InvalidInput(f"longer than {self.built.tokens_max} tokens", reason="TEXT_TOO_LONG")
        read = functools.partial(self._read, batch)
        with _refusals():
            works = self._encoder.run_all(read, prepared.tokens, batch.lane, deadline_s=batch.deadline_s)
        try:
            with _refusals():
                outcomes = await asyncio.gather(*map(asyncio.wrap_future, works))
        finally:
            # After an error nobody reads the others.
            for work in works:
                work.cancel()
        return Embedded(
            results=[
                _result(tokens, outcome, sparse)
                for tokens, outcome, sparse in zip_longest(prepared.tokens, outcomes, prepared.sparse)
            ],
            queue_s=max((work.queued_s for work in works), default=0.0),
            tokenize_s=prepared.tokenize_s,
            inference_s=sum(work.ran_s for work in works),
        )

    async def tokenize(
        self, texts: Sequence[str], purpose: Purpose | None, *, special: bool = True
    ) -> list[TextPieces]:
        """The tokens of each text, uncut, behind the prompt for a purpose; `special` adds the model's special tokens.

        Raises:
            Overloaded: the texts do not fit into the queue.
        """
        pieces = functools.partial(self._encoder.pieces, purpose=purpose, special=special)
        parts = await self._in_slices(pieces, texts, Lane.INTERACTIVE)
        return [piece for part in parts for piece in part]

    async def decode(self, ids: Sequence[int], *, skip_special: bool) -> str:
        """The text that token ids stand for; errors as `tokenize`."""
        decode = functools.partial(self._encoder.decode, ids, skip_special=skip_special)
        (text,) = await self._prepare_all([decode], Lane.INTERACTIVE)
        return text

    def close(self) -> None:
        """Drop what waits and let what runs finish."""
        self._preparing.close()
        self._encoder.close()

    async def _prepare(self, batch: TextBatch) -> _Prepared:
        if sum(map(len, batch.texts)) <= _INLINE_CHARS_MAX:
            return self._prepare_slice(batch, batch.texts)
        parts = await self._in_slices(functools.partial(self._prepare_slice, batch), batch.texts, batch.lane)
        return _Prepared(
            tokens=[tokens for part in parts for tokens in part.tokens],
            sparse=[vector for part in parts for vector in part.sparse],
            tokenize_s=sum(part.tokenize_s for part in parts),
        )

    async def _in_slices(self, function: Callable[[Sequence[str]], R], texts: Sequence[str], lane: Lane) -> list[R]:
        slices = [texts[start : start + _SLICE_TEXTS] for start in range(0, len(texts), _SLICE_TEXTS)]
        return await self._prepare_all([functools.partial(function, part) for part in slices], lane)

    async def _prepare_all(self, functions: Sequence[Callable[[], R]], lane: Lane) -> list[R]:
        with _refusals():
            works = self._preparing.submit_all(functions, lane)
        return await asyncio.gather(*map(asyncio.wrap_future, works))

    def _prepare_slice(self, batch: TextBatch, texts: Sequence[str]) -> _Prepared:
        started = time.monotonic()
        tokens = self._encoder.tokenize(texts, batch.purpose, batch.side) if batch.wants_model else []
        tokenize_s = time.monotonic() - started
        sparse: list[SparseVector] = []
        if batch.want_sparse:
            bm25 = self._bm25(batch.language)
            if batch.purpose == "query":
                sparse = [bm25.query(text) for text in texts]
            else:
                sparse = [bm25.passage(text, batch.average_length) for text in texts]
        return _Prepared(tokens=tokens, sparse=sparse, tokenize_s=tokenize_s)

    def _read(self, batch: TextBatch, tokens: TokenIds) -> _Read | ModelFailure:
        """Runs the model on one of its threads. A failure is a result here: it is this text's, and the others go on."""
        normalise = self.built.normalise if batch.normalise is None else batch.normalise
        token_vectors = None
        try:
            if batch.want_tokens:
                vector, token_vectors = self._encoder.encode_tokens(tokens, normalise=normalise)
            else:
                vector = self._encoder.encode(tokens, normalise=normalise)
        except ModelFailure as failure:
            return failure
        if not batch.want_dense:
            return _Read(dense=None, token_vectors=token_vectors)
        vector = shortened(vector, batch.dims or self.built.dim, normalise=normalise)
        return _Read(dense=packed(vector, batch.dense_type), token_vectors=token_vectors)


@contextlib.contextmanager
def _refusals() -> Generator[None]:
    """Says a queue's refusal in the words of the contract."""
    try:
        yield
    except (QueueFull, DeadlineHopeless) as error:
        raise _refusal(error) from error


def _refusal(error: QueueFull | DeadlineHopeless) -> GannetError:
    if isinstance(error, QueueFull):
        return Overloaded(str(error), retry_after_s=error.retry_after_s)
    return DeadlineTooShort(f"not begun: it {error}", reason="DEADLINE_HOPELESS")


def _result(tokens: TokenIds | None, outcome: _Read | ModelFailure | None, sparse: SparseVector | None) -> TextVectors:
    if tokens is None or outcome is None:
        return TextVectors(sparse=sparse)
    if isinstance(outcome, ModelFailure):
        _log.error("text failed", model=outcome.model, error=str(outcome), tokens=tokens.count)
        failed = InternalError("the model failed on this text", reason="MODEL_FAILURE")
        return TextVectors(token_count=tokens.count, truncated=tokens.truncated, error=failed)
    return TextVectors(
        dense=outcome.dense,
        sparse=sparse,
        token_vectors=outcome.token_vectors,
        token_count=tokens.count,
        truncated=tokens.truncated,
    )
