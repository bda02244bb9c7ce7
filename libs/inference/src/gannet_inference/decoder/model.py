"""A decoder by its manifest entry: tokenizer, chat template and engine, with an async face for servers."""

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from gannet_inference.decoder.cache import HostCache
from gannet_inference.decoder.chat import ChatTemplate, Message
from gannet_inference.decoder.engine import Engine, EngineLimits
from gannet_inference.decoder.facts import DecoderFacts, read_facts
from gannet_inference.decoder.opening import LoadedGraph, SlotLimits, load_graph
from gannet_inference.decoder.prefixes import PrefixCache
from gannet_inference.decoder.request import Chunk, DecodeRequest, InvalidRequest
from gannet_inference.decoder.stream import Stream
from gannet_inference.decoder.text import TokenBytes
from gannet_inference.errors import UnsupportedModel
from gannet_inference.fetch import Progress, fetch, source_digests
from gannet_inference.manifest import ModelEntry, Precision
from gannet_inference.tokens import load_tokenizer
from gannet_kernels import compile_all

# Beginnings of a text that are not known to it: its tokens are counted as they stand.
_NO_TEMPLATE = "this model has no chat template"


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderSettings:
    """How a server runs a decoder.

    Attributes:
        slots_max: texts that decode at once.
        context_tokens: longest text, prompt and answer together, at most the entry's `tokens_max`; 0 for that.
        cache_bytes_max: memory of all slots' keys and values.
        prefix_bytes_max: memory of earlier prompts' keys and values; 0 keeps none. On a GPU none are kept.
        prefill_tokens: most tokens of a prompt in one run.
        queue_max: requests that may wait.
        threads: cores of a run.
        spin: threads wait awake; see `load_graph`.
        gpu_index: which GPU; None for the CPU.
    """

    slots_max: int
    context_tokens: int
    cache_bytes_max: int
    prefix_bytes_max: int
    prefill_tokens: int
    queue_max: int
    threads: int
    spin: bool
    gpu_index: int | None


class Decoder:
    """A causal language model that serves many requests at once."""

    def __init__(
        self, entry: ModelEntry, digest: str, facts: DecoderFacts, tokenizer: Tokenizer, settings: DecoderSettings
    ) -> None:
        """Loads the graph; see `open`."""
        self.name = entry.name
        self.precision: Precision = entry.precision
        self.digest = digest
        self.context_tokens = min(entry.tokens_max, settings.context_tokens or entry.tokens_max)
        self.token_bytes = TokenBytes(tokenizer)
        self._tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder().values()
        specials = [token.content for token in added if token.special]
        self._chat = (
            ChatTemplate(facts.chat_template, facts.special_tokens, specials, model=entry.name)
            if facts.chat_template
            else None
        )
        limits = SlotLimits(
            slots_max=settings.slots_max,
            positions=self.context_tokens,
            cache_bytes_max=settings.cache_bytes_max,
            prefill_tokens=settings.prefill_tokens,
        )
        self._graph = load_graph(
            facts.graph,
            limits,
            model=entry.name,
            threads=settings.threads,
            spin=settings.spin,
            gpu_index=settings.gpu_index,
        )
        if tokenizer.get_vocab_size() > self._graph.layout.vocabulary:
            raise UnsupportedModel(
                entry.name,
                "tokenizer.json",
                f"has {tokenizer.get_vocab_size()} tokens, the graph gives {self._graph.layout.vocabulary} logits",
            )
        self._mailboxes: dict[Stream, _Mailbox] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._engine = self._engine_of(self._graph, tokenizer, facts, settings)

    @classmethod
    def open(
        cls,
        entry: ModelEntry,
        models_dir: Path,
        settings: DecoderSettings,
        *,
        progress: Progress = lambda _: None,
        hub_endpoint: str | None = None,
    ) -> "Decoder":
        """Fetches a decoder's files where they are not there, checks them and loads them.

        Args:
            entry: of the manifest.
            models_dir: where fetched files are kept.
            settings: how it runs.
            progress: told in a few words what takes time.
            hub_endpoint: another hub than the public one.

        Raises:
            ModelError: one of its kinds, by what went wrong.
            DeviceUnavailable: the GPU cannot be used.
        """
        if entry.kind != "decoder":
            raise UnsupportedModel(entry.name, "kind", f"is a {entry.kind}, not a decoder")
        folder = fetch(entry, models_dir, progress=progress, hub_endpoint=hub_endpoint)
        files = source_digests(entry)
        graph = next((file for file in entry.digests if file.endswith(".onnx")), None)
        facts = read_facts(folder, model=entry.name, graph=graph)
        if facts.context_tokens and entry.tokens_max > facts.context_tokens:
            raise UnsupportedModel(
                entry.name, "tokens_max", f"is {entry.tokens_max}, the model was made for {facts.context_tokens}"
            )
        parts = json.dumps([dict(files), entry.tokens_max], sort_keys=True)
        digest = hashlib.sha256(parts.encode()).hexdigest()
        compile_all()
        return cls(entry, digest, facts, load_tokenizer(folder / "tokenizer.json", model=entry.name), settings)

    @property
    def slots(self) -> int:
        """Texts that decode at once."""
        return self._graph.cache.slots

    @property
    def execution_provider(self) -> str:
        """Where the graph runs, ONNX Runtime's name."""
        return self._graph.execution_provider

    @property
    def waiting(self) -> int:
        """Requests without a slot."""
        return self._engine.waiting

    @property
    def in_work(self) -> int:
        """Requests in a slot."""
        return len(self._engine.slots.streams)

    def start(self) -> None:
        """Begins to work; chunks come to the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._engine.start()

    async def close(self) -> None:
        """Fails what is left and ends the engine's thread."""
        await asyncio.to_thread(self._engine.close)

    def prompt(self, messages: Sequence[Message]) -> NDArray[np.int64]:
        """Messages as the model reads them; takes the GIL for the template alone, so it suits a thread.

        Raises:
            InvalidRequest: the model has no chat template, or its template refuses the messages.
        """
        if self._chat is None:
            raise InvalidRequest("messages", _NO_TEMPLATE)
        # The template writes the special tokens that begin a text itself.
        return np.array(
            self._tokenizer.encode(self._chat.render(messages), add_special_tokens=False).ids, dtype=np.int64
        )

    def count(self, texts: Sequence[str]) -> list[int]:
        """The tokens of each text, without special ones."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [len(encoding.ids) for encoding in encodings]

    async def generate(self, request: DecodeRequest) -> AsyncGenerator[Chunk, None]:
        """The chunks of one text, the last one `finished`; closing the iterator frees its slot before the next token.

        Chunks that a slow reader has not taken are joined to one.

        Raises:
            InvalidRequest: it does not fit.
            QueueFull: it would wait in vain.
            DeadlinePassed: its time was over.
            ModelFailure: the model failed.
        """
        stream = self._engine.submit(request)
        # Nothing is lost: what the engine posts from now on is only read once this task waits.
        mailbox = self._mailboxes[stream] = _Mailbox()
        try:
            while True:
                chunk = await mailbox.take()
                if chunk.error is not None:
                    raise chunk.error
                yield chunk
                if chunk.is_last:
                    return
        finally:
            del self._mailboxes[stream]
            self._engine.cancel(stream)

    def _engine_of(
        self, graph: LoadedGraph, tokenizer: Tokenizer, facts: DecoderFacts, settings: DecoderSettings
    ) -> Engine:
        cache = graph.cache
        return Engine(
            graph.runner,
            cache,
            tokenizer=tokenizer,
            vocabulary=graph.layout.vocabulary,
            ends=facts.ends,
            limits=EngineLimits(queue_max=settings.queue_max, prefill_tokens=settings.prefill_tokens),
            deliver=self._deliver,
            prefixes=PrefixCache(cache, settings.prefix_bytes_max) if isinstance(cache, HostCache) else None,
            model=self.name,
        )

    def _deliver(self, news: Sequence[tuple[Stream, Chunk]]) -> None:
        """In the engine's thread: one wake-up of the event loop for all that a round brought."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._post, news)

    def _post(self, news: Sequence[tuple[Stream, Chunk]]) -> None:
        for stream, chunk in news:
            mailbox = self._mailboxes.get(stream)
            if mailbox is not None:
                mailbox.put(chunk)


class _Mailbox:
    """One chunk: what came since the last one was taken."""

    def __init__(self) -> None:
        self._chunk: Chunk | None = None
        self._came = asyncio.Event()

    def put(self, chunk: Chunk) -> None:
        self._chunk = chunk if self._chunk is None else self._chunk.then(chunk)
        self._came.set()

    async def take(self) -> Chunk:
        await self._came.wait()
        self._came.clear()
        chunk, self._chunk = self._chunk, None
        return chunk or Chunk()
