"""Texts to vectors: tokenise and weigh on one thread, embed on the model's threads, and wait for both without blocking.

Every step waits in the caller's lane, so a query passes a bulk batch at each of them. Whoever leaves takes the work that has
not started along.
"""

import asyncio
import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import structlog
from numpy.typing import NDArray

from gannet_inference.encoder import BiEncoder
from gannet_inference.errors import ModelFailure, QueueFull
from gannet_inference.lanes import Lane, PriorityExecutor
from gannet_inference.manifest import Purpose
from gannet_inference.sparse import Bm25Encoder, SparseVector
from gannet_inference.tokens import TokenIds
from gannet_service.errors import GannetError, InternalError, Overloaded

# Texts prepared in one go: a query waits for at most one such slice of a bulk batch (about 2 ms), and 256 texts cost 32 handovers.
_SLICE_TEXTS = 8

_log: structlog.stdlib.BoundLogger = structlog.get_logger("embedder")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextBatch:
    """What one call wants embedded.

    Attributes:
        texts: the texts, each within the limits.
        purpose: selects the prompt and the BM25 weighting.
        lane: which queue the work waits in.
        want_dense: make dense vectors.
        want_sparse: make BM25 vectors.
        language: ISO 639-1, of the stemmer and the stop words; one of `sparse.LANGUAGES`.
        average_length: BM25's mean passage length, in terms, > 0.
    """

    texts: Sequence[str]
    purpose: Purpose
    lane: Lane
    want_dense: bool
    want_sparse: bool
    language: str
    average_length: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TextVectors:
    """What became of one text: the vectors asked for, or the error of this text alone."""

    dense: NDArray[np.float32] | None = None
    sparse: SparseVector | None = None
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


class TextEmbedder:
    """The model, the BM25 encoders, and the one thread that tokenises and weighs."""

    def __init__(self, encoder: BiEncoder, *, queue_texts_max: int) -> None:
        """Takes over the encoder.

        Args:
            encoder: the dense model.
            queue_texts_max: texts that may wait to be tokenised, rounded up to whole slices.
        """
        self._encoder = encoder
        # Made when first asked for: an encoder is 2 MiB, and there are 34 languages.
        self._bm25 = functools.cache(Bm25Encoder)
        # One thread: tokenising and weighing a text take a hundredth of the model's time.
        slices_max = -(-queue_texts_max // _SLICE_TEXTS)
        self._preparing = PriorityExecutor(name="prepare", threads=1, queue_max=slices_max)

    async def embed(self, batch: TextBatch) -> Embedded:
        """Embed the texts of `batch`, a model's failure on one of them being that text's own. Cancelling drops what has not started.

        Raises:
            Overloaded: the batch does not fit into a queue.
        """
        try:
            prepared = await self._prepare(batch)
            works = self._encoder.submit_all(prepared.tokens, batch.lane) if prepared.tokens else []
        except QueueFull as error:
            raise Overloaded(str(error), retry_after_s=error.retry_after_s) from error
        outcomes = await asyncio.gather(*map(asyncio.wrap_future, works), return_exceptions=True)
        results = [
            _result(tokens, outcome, sparse)
            for tokens, outcome, sparse in zip_longest(prepared.tokens, outcomes, prepared.sparse)
        ]
        return Embedded(
            results=results,
            queue_s=max((work.queued_s for work in works), default=0.0),
            tokenize_s=prepared.tokenize_s,
            inference_s=sum(work.ran_s for work in works),
        )

    def close(self) -> None:
        """Drop what waits and let what runs finish."""
        self._preparing.close()
        self._encoder.close()

    async def _prepare(self, batch: TextBatch) -> _Prepared:
        slices = [batch.texts[start : start + _SLICE_TEXTS] for start in range(0, len(batch.texts), _SLICE_TEXTS)]
        works = self._preparing.submit_all(
            [functools.partial(self._prepare_slice, batch, texts) for texts in slices], batch.lane
        )
        parts = await asyncio.gather(*map(asyncio.wrap_future, works))
        return _Prepared(
            tokens=[tokens for part in parts for tokens in part.tokens],
            sparse=[vector for part in parts for vector in part.sparse],
            tokenize_s=sum(part.tokenize_s for part in parts),
        )

    def _prepare_slice(self, batch: TextBatch, texts: Sequence[str]) -> _Prepared:
        started = time.monotonic()
        tokens = self._encoder.tokenize(texts, batch.purpose) if batch.want_dense else []
        tokenize_s = time.monotonic() - started
        sparse: list[SparseVector] = []
        if batch.want_sparse:
            bm25 = self._bm25(batch.language)
            if batch.purpose == "query":
                sparse = [bm25.query(text) for text in texts]
            else:
                sparse = [bm25.passage(text, batch.average_length) for text in texts]
        return _Prepared(tokens=tokens, sparse=sparse, tokenize_s=tokenize_s)


def _result(
    tokens: TokenIds | None, outcome: NDArray[np.float32] | BaseException | None, sparse: SparseVector | None
) -> TextVectors:
    if tokens is None:
        return TextVectors(sparse=sparse)
    if isinstance(outcome, ModelFailure):
        _log.error("text failed", model=outcome.model, error=str(outcome), tokens=tokens.count)
        failed = InternalError("the model failed on this text", reason="MODEL_FAILURE")
        return TextVectors(token_count=tokens.count, truncated=tokens.truncated, error=failed)
    if isinstance(outcome, BaseException):
        raise outcome
    return TextVectors(dense=outcome, sparse=sparse, token_count=tokens.count, truncated=tokens.truncated)
