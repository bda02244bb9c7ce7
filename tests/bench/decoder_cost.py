"""What decoding costs beside the model, and what the memory gives: for `bench_generate`."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from decoder_models import END, SMOLLM_135M, word_tokenizer

from gannet_inference.decoder.engine import Delivery, Engine, EngineLimits
from gannet_inference.decoder.opening import LoadedGraph
from gannet_inference.decoder.request import Chunk, DecodeRequest, Sampling
from gannet_inference.decoder.stream import Stream
from gannet_kernels import exact_top_k


def bench_engine(graph: LoadedGraph, deliver: Delivery, *, prefill_tokens: int) -> Engine:
    """An engine without known prompts."""
    return Engine(
        graph.runner,
        graph.cache,
        tokenizer=word_tokenizer(SMOLLM_135M.vocabulary),
        vocabulary=SMOLLM_135M.vocabulary,
        ends=[END],
        limits=EngineLimits(queue_max=64, prefill_tokens=prefill_tokens),
        deliver=deliver,
        prefixes=None,
        model="bench",
    )


def decode_request(prompt: Sequence[int], count: int, sampling: Sampling | None = None) -> DecodeRequest:
    """As many tokens as it says, no fewer."""
    ids = np.array(prompt, dtype=np.int64)
    return DecodeRequest(prompt=ids, tokens_max=count, tokens_min=count, sampling=sampling or Sampling())


def memory_bytes_per_s(threads: int) -> float:
    """What all cores together read from memory, by the kernel that reads rows at its full rate."""
    rows = np.ones((threads, 100_000, 512), dtype=np.float32)
    query = np.ones(512, dtype=np.float32)
    runs_s: list[float] = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(6):
            started = time.perf_counter()
            list(pool.map(exact_top_k, [query] * threads, rows, [1] * threads))
            runs_s.append(time.perf_counter() - started)
    return rows.nbytes / min(runs_s)


class _NoModel:
    """A session that has nothing to do."""

    def __init__(self, session: Any) -> None:
        self.io_binding = session.io_binding

    def run_with_iobinding(self, binding: Any) -> None:
        """The logits stay what they were."""


def cpu_us_per_token(graph: LoadedGraph, streams: int, sampling: Sampling) -> float:
    """CPU time of the engine's thread a token with a model that takes none: binding, sampling, decoding to text, delivering."""
    runner: Any = graph.runner
    session, runner._session = runner._session, _NoModel(runner._session)
    runner._logits[:] = np.random.default_rng(0).normal(0, 3, runner._logits.shape)
    delivered = [0]

    def take(news: Sequence[tuple[Stream, Chunk]]) -> None:
        delivered[0] += sum(len(chunk.tokens) for _, chunk in news)

    engine = bench_engine(graph, take, prefill_tokens=16)
    for number in range(streams):
        engine.submit(
            decode_request([5] * 16, 100, Sampling(temperature=sampling.temperature, top_p=sampling.top_p, seed=number))
        )
    for _ in range(streams + 5):
        engine.step()
    delivered[0] = 0
    started = time.thread_time()
    for _ in range(50):
        engine.step()
    spent = time.thread_time() - started
    runner._session = session
    return spent / delivered[0] * 1e6
