"""Many texts in one run, for devices that are idle with one: callers wait for each other no longer than the device is busy.

Each caller runs one text, as on a `ModelSession`. Whoever finds the device free runs a batch of what waits; there is no timer
and no thread of its own.
"""

import threading
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from gannet_inference.errors import ModelFailure
from gannet_inference.tokens import TokenIds

# Widths of batches are multiples of this: every shape that a device sees costs it a plan and memory.
BUCKET_TOKENS = 64

Outcome = NDArray[np.float32] | ModelFailure
RunBatch = Callable[[Sequence[TokenIds]], list[NDArray[np.float32]]]


def width_of(tokens: int) -> int:
    """The multiple of `BUCKET_TOKENS` that holds so many tokens."""
    return -(-tokens // BUCKET_TOKENS) * BUCKET_TOKENS


def choose(lengths: Sequence[int], budget_tokens: int) -> list[int]:
    """Which of the waiting texts to run together; reference: `tests/reference/batching.py`.

    The oldest always, then those of its width and the nearest widths, older ones first, as long as the padded batch stays
    within the budget. A text less than half as wide as the batch waits for another: most of its row would be padding.

    Args:
        lengths: tokens of each waiting text, the oldest first; at least one.
        budget_tokens: most tokens of a batch, padding included; a text that is longer runs alone.

    Returns:
        Indices, in ascending order.
    """
    widths = [width_of(length) for length in lengths]
    chosen = [0]
    widest = narrowest = widths[0]
    for index in sorted(range(1, len(widths)), key=lambda index: (abs(widths[index] - widths[0]), index)):
        wide, narrow = max(widest, widths[index]), min(narrowest, widths[index])
        if 2 * narrow >= wide and wide * (len(chosen) + 1) <= budget_tokens:
            chosen.append(index)
            widest, narrowest = wide, narrow
    return sorted(chosen)


def pad(texts: Sequence[TokenIds], tokens_max: int) -> dict[str, NDArray[np.int64]]:
    """The graph's inputs, i64[B, W] each, zeros behind each text.

    Args:
        texts: the rows.
        tokens_max: the longest text of the model; W is the bucket of the longest text here, but no more than that.
    """
    shape = (len(texts), min(width_of(max(text.count for text in texts)), tokens_max))
    names = ("input_ids", "token_type_ids", "attention_mask")
    ids, types, mask = (np.zeros(shape, dtype=np.int64) for _ in names)
    for row, text in enumerate(texts):
        ids[row, : text.count] = text.ids
        types[row, : text.count] = text.type_ids
        mask[row, : text.count] = 1
    return dict(zip(names, (ids, types, mask), strict=True))


class _Caller:
    """One caller's text, and what became of it; `woken` is set when there is an outcome, or the device is this caller's."""

    def __init__(self, text: TokenIds) -> None:
        self.text = text
        self.outcome: Outcome | None = None
        self.woken = threading.Event()


class Batcher:
    """Gathers the texts of concurrent callers into batches within a budget of tokens."""

    def __init__(self, run_batch: RunBatch, *, model: str, budget_tokens: int) -> None:
        """Runs nothing yet.

        Args:
            run_batch: runs texts together, giving one output each in order, or raises ModelFailure; never called twice at once.
            model: whose errors these are.
            budget_tokens: most tokens of a batch, padding included.
        """
        self._run_batch = run_batch
        self._model = model
        self.budget_tokens = budget_tokens
        self._lock = threading.Lock()
        self._waiting: list[_Caller] = []
        self._busy = False

    def run(self, text: TokenIds) -> NDArray[np.float32]:
        """Runs one text with whatever else waits; blocks until it is done.

        Raises:
            ModelFailure: the model failed on this text; the others of its batch are run again without it.
        """
        caller = _Caller(text)
        with self._lock:
            self._waiting.append(caller)
            leads, self._busy = not self._busy, True
        if not leads:
            caller.woken.wait()
        # The device passes to the caller that has waited longest, so whoever leads is in its own batch.
        if caller.outcome is None:
            self._lead()
        if isinstance(caller.outcome, ModelFailure):
            raise caller.outcome
        assert caller.outcome is not None  # noqa: S101 - `_lead` gives every caller of its batch an outcome
        return caller.outcome

    def _lead(self) -> None:
        """Runs one batch of what waits and passes the device on."""
        with self._lock:
            chosen = choose([one.text.count for one in self._waiting], self.budget_tokens)
            batch = [self._waiting[index] for index in chosen]
            for index in reversed(chosen):
                del self._waiting[index]
        outcomes: Sequence[Outcome] = [ModelFailure(self._model, "run", "was interrupted")] * len(batch)
        try:
            outcomes = self._outcomes([one.text for one in batch])
        finally:
            # Also on the way of an interrupt: those who wait must not wait for ever.
            for one, outcome in zip(batch, outcomes, strict=True):
                one.outcome = outcome
            with self._lock:
                following = self._waiting[0] if self._waiting else None
                self._busy = following is not None
            for one in batch:
                one.woken.set()
            if following is not None:
                following.woken.set()

    def _outcomes(self, texts: Sequence[TokenIds]) -> list[Outcome]:
        """Halves a batch that fails until the text that breaks the model is alone: at most 2·B runs."""
        try:
            return [*self._run_batch(texts)]
        except ModelFailure as error:
            if len(texts) == 1:
                return [error]
            half = len(texts) // 2
            return [*self._outcomes(texts[:half]), *self._outcomes(texts[half:])]


def calibrated_budget(seconds: Callable[[int], float], *, budget_max: int, enough: float = 0.95) -> int:
    """The smallest budget that reads about as fast as any: beyond it, batches only make texts wait.

    Args:
        seconds: runs a batch of so many padded tokens and tells how long it took, or raises ModelFailure where it is too large
            for the device; then no larger one is tried.
        budget_max: most tokens, >= `BUCKET_TOKENS`.
        enough: share of the best rate that is enough, 0 to 1.

    Returns:
        A power of two times `BUCKET_TOKENS`, at most `budget_max`.

    Raises:
        ModelFailure: not even the smallest batch runs.
    """
    rates: dict[int, float] = {}
    budget = BUCKET_TOKENS
    while budget <= budget_max:
        try:
            rates[budget] = budget / seconds(budget)
        except ModelFailure:
            if not rates:
                raise
            break
        budget *= 2
    best = max(rates.values())
    return next(budget for budget, rate in rates.items() if rate >= enough * best)
