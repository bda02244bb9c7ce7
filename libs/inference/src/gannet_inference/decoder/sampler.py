"""The next token of every slot, with what each slot's request asks for; arrays by slot, so that a step builds none."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gannet_inference.decoder.request import DecodeRequest, Token
from gannet_inference.decoder.runner import Logits
from gannet_kernels import sampling, top_k


class Sampler:
    """Parameters and histories by slot; used by the engine's thread alone."""

    def __init__(self, slots: int, vocabulary: int, ends: Sequence[int]) -> None:
        """Makes the arrays.

        Args:
            slots: texts.
            vocabulary: logits a token.
            ends: tokens that end a text, kept from being chosen before a request's `tokens_min`.
        """
        self._ends = np.array(sorted(ends), dtype=np.int64)
        self._requests: list[DecodeRequest | None] = [None] * slots
        self._temperature = np.zeros(slots)
        self._top_k = np.zeros(slots, dtype=np.int64)
        self._top_p = np.ones(slots)
        self._min_p = np.zeros(slots)
        self._seeds = np.zeros(slots, dtype=np.uint64)
        self._positions = np.zeros(slots, dtype=np.int64)
        # Written to only for requests with penalties.
        self._in_prompt = np.zeros((slots, vocabulary), dtype=np.uint8)
        self._said = np.zeros((slots, vocabulary), dtype=np.uint32)

    def join(self, slot: int, request: DecodeRequest) -> None:
        """Starts a slot's request at its first token."""
        asked = request.sampling
        self._requests[slot] = request
        self._temperature[slot] = asked.temperature
        self._top_k[slot] = asked.top_k
        self._top_p[slot] = asked.top_p
        self._min_p[slot] = asked.min_p
        self._seeds[slot] = asked.seed
        self._positions[slot] = 0
        if _penalises(request):
            self._in_prompt[slot] = 0
            self._in_prompt[slot, request.prompt] = 1
            self._said[slot] = 0

    def move(self, source: int, target: int) -> None:
        """Takes a slot's request to another slot."""
        request = self._requests[source]
        self._requests[target] = request
        for array in (self._temperature, self._top_k, self._top_p, self._min_p, self._seeds, self._positions):
            array[target] = array[source]
        if request is not None and _penalises(request):
            self._in_prompt[target] = self._in_prompt[source]
            self._said[target] = self._said[source]

    def choose(self, first: int, logits: Logits) -> list[Token | None]:
        """Chooses a token for each row, which is slot `first + row`; changes the logits.

        Returns:
            None for a row that the model gave no distribution for.
        """
        rows = len(logits)
        span = slice(first, first + rows)
        reports = [self._prepare(first + row, logits[row]) for row in range(rows)]
        best = logits.argmax(axis=1)
        if any(request is not None and request.sampling.temperature > 0 for request in self._requests[span]):
            tokens = sampling.sample(
                logits,
                best,
                self._temperature[span],
                self._top_k[span],
                self._top_p[span],
                self._min_p[span],
                self._seeds[span],
                self._positions[span],
            ).tolist()
        else:
            # Row by row: at one row, which is where it shows, NumPy's calls for all rows take 5 µs.
            tokens = [token if math.isfinite(logits[row, token]) else -1 for row, token in enumerate(best.tolist())]
        self._positions[span] += 1
        chosen: list[Token | None] = []
        for row, (token, report) in enumerate(zip(tokens, reports, strict=True)):
            if token < 0:
                chosen.append(None)
                continue
            request = self._requests[first + row]
            if request is not None and _penalises(request):
                self._said[first + row, token] += 1
            chosen.append(Token(id=token) if report is None else report.token(token))
        return chosen

    def _prepare(self, slot: int, logits: NDArray[np.float32]) -> "_Probabilities | None":
        """Lowers a row's logits as its request has it; what was there before is reported where it was asked for."""
        request = self._requests[slot]
        if request is None:
            return None
        report = _Probabilities(logits, request.logprobs) if request.logprobs >= 0 else None
        if self._positions[slot] < request.tokens_min:
            logits[self._ends] = -np.inf
        if _penalises(request):
            asked = request.sampling
            sampling.penalise(
                logits,
                self._in_prompt[slot],
                self._said[slot],
                asked.repetition_penalty,
                asked.presence_penalty,
                asked.frequency_penalty,
            )
        return report


class _Probabilities:
    """Log probabilities of a row as the model gave it."""

    def __init__(self, logits: NDArray[np.float32], count: int) -> None:
        self._logits = logits.copy()
        best = float(logits.max())
        self._norm = sampling.log_sum_exp(logits, best) if math.isfinite(best) else math.nan
        places = top_k(self._logits, count)
        self._top = tuple((int(place), float(self._logits[place]) - self._norm) for place in places)

    def token(self, token: int) -> Token:
        return Token(id=token, logprob=float(self._logits[token]) - self._norm, top=self._top)


def _penalises(request: DecodeRequest) -> bool:
    asked = request.sampling
    return (asked.repetition_penalty, asked.presence_penalty, asked.frequency_penalty) != (1.0, 0.0, 0.0)
