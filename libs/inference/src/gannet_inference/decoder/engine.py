"""The decode loop: continuous batching over the slots of one graph, in one thread.

A round: those that nobody waits for leave; one waiting request gets a free slot; at most `prefill_tokens` of one prompt are
read; every stream that has been read gets its next token in one run; what is new goes out in one delivery. So a stream waits for
another's prompt for no longer than one piece of it takes, and slots are taken and left between any two tokens.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from gannet_inference.decoder.cache import KvCache
from gannet_inference.decoder.prefixes import PrefixCache
from gannet_inference.decoder.request import Chunk, DecodeRequest, InvalidRequest, Token
from gannet_inference.decoder.runner import Runner
from gannet_inference.decoder.sampler import Sampler
from gannet_inference.decoder.slots import SlotTable
from gannet_inference.decoder.stream import Stream
from gannet_inference.errors import DeadlinePassed, ModelFailure, QueueFull

_log = logging.getLogger(__name__)
_CLOSE_TIMEOUT_S = 30.0
# Retry hints outside these bounds help nobody: shorter ones are a busy loop, longer ones outlive the caller's deadline.
_RETRY_AFTER_S_MIN = 0.05
_RETRY_AFTER_S_MAX = 30.0
# What is left of a stream's weight in the mean time after the next one.
_MEMORY = 0.9
# How far the estimate falls each time that it turned a request away, so that one slow moment does not close the door for good.
_DOUBT = 0.9

Delivery = Callable[[Sequence[tuple[Stream, Chunk]]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLimits:
    """Bounds of an engine.

    Attributes:
        queue_max: requests that may wait for a slot.
        prefill_tokens: most tokens of a prompt in one run.
    """

    queue_max: int
    prefill_tokens: int


class Engine:
    """Decodes requests; `submit` and `cancel` may be called from any thread."""

    def __init__(
        self,
        runner: Runner,
        cache: KvCache,
        *,
        tokenizer: Tokenizer,
        vocabulary: int,
        ends: Sequence[int],
        limits: EngineLimits,
        deliver: Delivery,
        prefixes: PrefixCache | None,
        model: str,
    ) -> None:
        """Takes over a runner and its cache.

        Args:
            runner: the graph.
            cache: its slots.
            tokenizer: that gives tokens their text.
            vocabulary: logits a token.
            ends: tokens that end a text.
            limits: of the queue and of a run.
            deliver: told once a round of everything that is new; called in the engine's thread, must not wait.
            prefixes: keys of earlier prompts; None keeps none.
            model: whose errors these are.
        """
        self._runner = runner
        self._positions = cache.positions
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._ends = frozenset(ends)
        self._limits = limits
        self._deliver = deliver
        self._prefixes = prefixes
        self._model = model
        self._sampler = Sampler(cache.slots, vocabulary, ends)
        self._slots_count = cache.slots
        self.slots = SlotTable(cache, self._sampler)
        self._waiting: deque[Stream] = deque()
        self._wakes = threading.Condition()
        self._is_closed = False
        self._thread: threading.Thread | None = None
        self._stream_s = 0.0
        self._news: list[tuple[Stream, Chunk]] = []

    @property
    def waiting(self) -> int:
        """Requests without a slot."""
        return len(self._waiting)

    def start(self) -> None:
        """Runs rounds in a thread of its own until `close`."""
        self._thread = threading.Thread(target=self._work, name="decoder", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread after its round; every stream that is left fails."""
        with self._wakes:
            self._is_closed = True
            self._wakes.notify()
        if self._thread is not None:
            self._thread.join(_CLOSE_TIMEOUT_S)

    def submit(self, request: DecodeRequest) -> Stream:
        """Queues a request; its chunks come by `deliver`.

        Raises:
            InvalidRequest: the prompt and what may be added do not fit into a slot, or a token is outside of the vocabulary.
            QueueFull: too many wait, or a slot will not be free before the request's deadline.
            ModelFailure: the engine is closed.
        """
        prompt = request.prompt
        if len(prompt) + request.tokens_max > self._positions:
            raise InvalidRequest(
                "tokens_max",
                f"{len(prompt)} tokens of prompt and {request.tokens_max} more, must be at most {self._positions} together",
            )
        if int(prompt.min()) < 0 or int(prompt.max()) >= self._vocabulary:
            raise InvalidRequest("prompt", f"a token is not within 0..{self._vocabulary - 1}")
        stream = Stream(request, self._tokenizer)
        with self._wakes:
            if self._is_closed:
                raise ModelFailure(self._model, "engine", "is closed")
            self._admit_to_queue(request)
            self._waiting.append(stream)
            self._wakes.notify()
        return stream

    def cancel(self, stream: Stream) -> None:
        """Has a stream leave its slot or the queue before the next token; nothing more is told of it."""
        with self._wakes:
            stream.is_cancelled = True
            self._wakes.notify()

    def step(self) -> bool:
        """One round, for the thread and for tests that need no thread.

        Returns:
            Whether there is more to do.
        """
        self._drop_dead()
        self._start_reading()
        self._read()
        self._decode()
        if self._news:
            news, self._news = self._news, []
            self._deliver(news)
        return bool(self._waiting or self.slots.reading or self.slots.decoding)

    def _admit_to_queue(self, request: DecodeRequest) -> None:
        """Raises `QueueFull` where a request would wait in vain."""
        free_in_s = self._stream_s / self._slots_count
        hint_s = min(max(free_in_s, _RETRY_AFTER_S_MIN), _RETRY_AFTER_S_MAX)
        ahead = len(self._waiting) + 1 - self.slots.free
        if len(self._waiting) >= self._limits.queue_max:
            raise QueueFull(hint_s)
        if ahead > 0 and time.monotonic() + ahead * free_in_s > request.ends_at_s:
            self._stream_s *= _DOUBT
            raise QueueFull(hint_s)

    def _work(self) -> None:
        while True:
            with self._wakes:
                while not (self._waiting or self.slots.streams or self._is_closed):
                    self._wakes.wait()
                if self._is_closed:
                    break
            self.step()
        with self._wakes:
            left = [*self._waiting, *self.slots.streams]
            self._waiting.clear()
        closing = ModelFailure(self._model, "engine", "is closed")
        self._deliver([(stream, Chunk(error=closing)) for stream in left])

    def _drop_dead(self) -> None:
        now_s = time.monotonic()
        with self._wakes:
            dead = [stream for stream in self._waiting if stream.is_dead(now_s)]
            for stream in dead:
                self._waiting.remove(stream)
        for stream in self.slots.streams:
            if stream.is_dead(now_s):
                self.slots.leave(stream)
                dead.append(stream)
        self._news += [(stream, Chunk(error=DeadlinePassed())) for stream in dead if not stream.is_cancelled]

    def _start_reading(self) -> None:
        if self.slots.reading is not None or not self.slots.free:
            return
        with self._wakes:
            stream = self._waiting.popleft() if self._waiting else None
        if stream is None:
            return
        stream.started_s = time.monotonic()
        slot = self.slots.read(stream)
        if self._prefixes is not None:
            stream.past = stream.reused = self._prefixes.restore(slot, stream.request.prompt)

    def _read(self) -> None:
        stream = self.slots.reading
        if stream is None:
            return
        slot, prompt = self.slots.reading_slot, stream.request.prompt
        piece = prompt[stream.past : stream.past + self._limits.prefill_tokens]
        try:
            logits = self._runner.run(slot, piece[None, :], np.array([stream.past], dtype=np.int64))
        except ModelFailure as error:
            self._fail([stream], error)
            return
        stream.past += len(piece)
        if stream.past < len(prompt):
            return
        if self._prefixes is not None:
            self._prefixes.keep(slot, prompt)
        token = self._sampler.choose(slot, logits)[0]
        self.slots.decode(stream)
        self._accept(stream, token)

    def _decode(self) -> None:
        streams = list(self.slots.decoding)
        if not streams:
            return
        ids = np.array([[stream.last] for stream in streams], dtype=np.int64)
        past = np.array([stream.past for stream in streams], dtype=np.int64)
        try:
            logits = self._runner.run(0, ids, past)
        except ModelFailure as error:
            self._fail(streams, error)
            return
        tokens = self._sampler.choose(0, logits)
        for stream in streams:
            stream.past += 1
        for stream, token in zip(streams, tokens, strict=True):
            self._accept(stream, token)

    def _accept(self, stream: Stream, token: Token | None) -> None:
        if token is None:
            self._fail([stream], ModelFailure(self._model, "logits", "hold NaN or infinity"))
            return
        chunk = stream.accept(token, self._ends)
        if chunk is None:
            return
        self._news.append((stream, chunk))
        if chunk.is_last:
            self.slots.leave(stream)
            spent_s = time.monotonic() - stream.started_s
            self._stream_s = _MEMORY * self._stream_s + (1 - _MEMORY) * spent_s if self._stream_s else spent_s

    def _fail(self, streams: Sequence[Stream], error: ModelFailure) -> None:
        _log.error("%d streams failed: %s", len(streams), error)
        for stream in streams:
            self.slots.leave(stream)
            self._news.append((stream, Chunk(error=error)))
