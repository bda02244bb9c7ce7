"""One request on its way through the engine."""

import time
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from gannet_inference.decoder.request import Chunk, DecodeRequest, Finished, FinishReason, Token
from gannet_inference.decoder.text import Detokeniser, StopStrings

if TYPE_CHECKING:
    from collections.abc import Collection


class Stream:
    """What the engine knows of one request. Written by the engine's thread alone, but for `is_cancelled`."""

    def __init__(self, request: DecodeRequest, tokenizer: Tokenizer) -> None:
        """Starts waiting."""
        self.request = request
        self.is_cancelled = False
        self.past = 0
        """Positions that its slot holds."""
        self.reused = 0
        """Of these, those that came from earlier prompts."""
        self.last = -1
        """The token to run next, once the prompt is read."""
        self.started_s = 0.0
        self._queued_s = time.monotonic()
        self._first_s = 0.0
        self._count = 0
        self._detokeniser = Detokeniser(tokenizer)
        self._stops = StopStrings(request.stop)
        self._untold: list[Token] = []

    def is_dead(self, now_s: float) -> bool:
        """Whether nobody wants it any more."""
        return self.is_cancelled or now_s >= self.request.ends_at_s

    def accept(self, token: Token, ends: "Collection[int]") -> Chunk | None:
        """Takes its next token; None while there is nothing to tell."""
        self._count += 1
        if self._count == 1:
            self._first_s = time.monotonic()
        self.last = token.id
        self._untold.append(token)
        if token.id in ends:
            return self._finish(self._stops.flush(), "stop")
        text = self._detokeniser.add(token.id)
        if text and self._count >= self.request.tokens_min:
            text, stopped = self._stops.add(text)
            if stopped:
                return self._finish(text, "stop_string")
        if self._count >= self.request.tokens_max:
            return self._finish(text + self._stops.flush(), "length")
        if not text:
            return None
        chunk = Chunk(text=text, tokens=tuple(self._untold))
        self._untold.clear()
        return chunk

    def _finish(self, text: str, reason: FinishReason) -> Chunk:
        finished = Finished(
            reason=reason,
            prompt_tokens=len(self.request.prompt),
            reused_tokens=self.reused,
            tokens=self._count,
            queue_s=self.started_s - self._queued_s,
            prefill_s=self._first_s - self.started_s,
            decode_s=time.monotonic() - self._first_s,
        )
        return Chunk(text=text, tokens=tuple(self._untold), finished=finished)
