"""`make bench-generate`: our decode loop beside onnxruntime-genai on the same graphs, on the same cores, in turns.

A 135M-parameter decoder of SmolLM's shape with random weights, fp32 and int4; prompts of 32 tokens, answers of 16 to 128, greedy.
Streams arrive eight in the time that one of 64 tokens takes alone. onnxruntime-genai has no continuous batching on a CPU: it is
measured one request after the other and with everything that waits as one batch, and held to the better of the two. Arguments:
`quick` asks for a quarter of the tokens, `nospin` has our threads sleep while they wait, as servers have them by default.
"""

import itertools
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import report
from decoder_models import END, SMOLLM_135M, decoder_folder, weight_bytes, word_tokenizer
from peers import Peer, ensure_env

from gannet_inference.decoder.engine import Engine, EngineLimits
from gannet_inference.decoder.opening import LoadedGraph, SlotLimits, load_graph
from gannet_inference.decoder.request import Chunk, DecodeRequest, Sampling
from gannet_inference.decoder.stream import Stream
from gannet_inference.session import cores_available
from gannet_kernels import compile_all, exact_top_k

PROMPT_TOKENS = 32
SLOTS = 16
POSITIONS = 256
COUNTS = (64, 16, 128, 32)
ARRIVALS_PER_ANSWER = 8
TURNS = 3
ONE_STREAM_MIN, STAGGERED_MIN, CPU_US_MAX = 1.0, 2.0, 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Prompts that arrive one every so often, and how many tokens each asks for."""

    name: str
    prompts: list[list[int]]
    counts: list[int]
    every_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """When each text's tokens came, in seconds from its arrival, and how long all of it took."""

    seconds: float
    times_s: list[list[float]]

    def row(self) -> dict[str, float]:
        """Tokens a second of all streams together, times to the first token, gaps between tokens."""
        gaps = [later - sooner for times in self.times_s for sooner, later in itertools.pairwise(times)]
        return {
            "tokens/s": sum(map(len, self.times_s)) / self.seconds,
            "first token s, median": statistics.median(times[0] for times in self.times_s),
            "gap ms, p50": statistics.median(gaps) * 1e3,
            "gap ms, p99": float(np.quantile(gaps, 0.99)) * 1e3,
        }


class Ours:
    """The engine with its thread; a token's time is when the engine delivers it."""

    def __init__(self, graph: LoadedGraph) -> None:
        self._times: dict[Stream, list[float]] = {}
        self._engine = _engine(graph, self._take)
        self._engine.start()

    def _take(self, news: Sequence[tuple[Stream, Chunk]]) -> None:
        now = time.perf_counter()
        for stream, chunk in news:
            if chunk.error is not None:
                raise chunk.error
            self._times.setdefault(stream, []).extend([now] * len(chunk.tokens))

    def run(self, work: Workload) -> Outcome:
        """Submits on time and waits for the last token."""
        started = time.perf_counter()
        streams: list[Stream] = []
        for number, (prompt, count) in enumerate(zip(work.prompts, work.counts, strict=True)):
            time.sleep(max(0.0, started + number * work.every_s - time.perf_counter()))
            streams.append(self._engine.submit(_request(prompt, count)))
        wanted = dict(zip(streams, work.counts, strict=True))
        while any(len(self._times.get(stream, ())) < count for stream, count in wanted.items()):
            time.sleep(0.002)
        ended = max(times[-1] for times in self._times.values())
        arrivals = [started + number * work.every_s for number in range(len(streams))]
        times = [
            [one - arrival for one in self._times[stream]] for stream, arrival in zip(streams, arrivals, strict=True)
        ]
        self._times.clear()
        return Outcome(seconds=ended - started, times_s=times)

    def close(self) -> None:
        """Ends the thread."""
        self._engine.close()


def main() -> None:
    """Measure, print and write."""
    compile_all()
    quarter = 4 if "quick" in sys.argv else 1
    threads = cores_available()
    rows: list[dict[str, Any]] = []
    claims: list[report.Claim] = []
    bandwidth = memory_bytes_per_s(threads)
    for bits in (32, 4):
        folder = decoder_folder(bits, threads)
        with Peer("onnxruntime-genai", "genai_worker", python=ensure_env("genai")) as peer:
            print(peer.call("load", folder=str(folder))["versions"], flush=True)
            graph = _load(folder, threads)
            speeds = _compare(bits, graph, peer, quarter, rows)
        step_bytes = weight_bytes(bits)
        share = speeds["1 ours"] * step_bytes / bandwidth
        print(f"{bits} bits: one stream reads {share:.2f} of the {bandwidth / 1e9:.1f} GB/s that the cores can read")
        rows.append({"bits": bits, "memory GB/s": bandwidth / 1e9, "share of it at one stream": share})
        label = "fp32" if bits == 32 else f"int{bits}"
        claims += [
            report.Claim(
                name=f"{label}, one stream, times onnxruntime-genai",
                value=speeds["1 ours"] / speeds["1 genai, one by one"],
                target=ONE_STREAM_MIN,
            ),
            report.Claim(
                name=f"{label}, 16 staggered streams, times the better of onnxruntime-genai's two ways",
                value=speeds["16 ours"] / max(speeds["16 genai, one by one"], speeds["16 genai, batched"]),
                target=STAGGERED_MIN,
            ),
        ]
    for streams, sampling in ((1, Sampling()), (16, Sampling()), (16, Sampling(temperature=0.8, top_p=0.95))):
        cost_us = cpu_us_per_token(graph, streams, sampling)
        name = f"CPU us a token outside of the model, {streams} streams, temperature {sampling.temperature:g}"
        claims.append(report.Claim(name=name, value=cost_us, target=CPU_US_MAX, at_least=False))
    report.write("generate", rows, claims)


def _compare(bits: int, graph: LoadedGraph, peer: Peer, quarter: int, rows: list[dict[str, Any]]) -> dict[str, float]:
    """Tokens a second by streams and system; the tables' rows are added to `rows`."""
    ours = Ours(graph)
    speeds: dict[str, float] = {}
    table: list[dict[str, Any]] = []
    alone_s = 0.0
    for streams in (1, 4, 16):
        work = _workload(streams, quarter, alone_s / ARRIVALS_PER_ANSWER)
        one = len(work.prompts) == 1
        ways = {"genai, one by one": 1} | ({} if one else {"genai, batched": SLOTS})
        outcomes: dict[str, list[Outcome]] = {}
        for turn in range(TURNS + 1 if one else 1):
            found = {"ours": ours.run(work)}
            for way, batch_max in ways.items():
                reply = peer.call(
                    "staggered", prompts=work.prompts, counts=work.counts, every_s=work.every_s, batch_max=batch_max
                )
                found[way] = Outcome(seconds=reply["seconds"], times_s=reply["times_s"])
            # The first turn warms both up.
            if turn or not one:
                for name, outcome in found.items():
                    outcomes.setdefault(name, []).append(outcome)
        for name, taken in outcomes.items():
            middle = sorted(taken, key=lambda outcome: outcome.seconds)[len(taken) // 2]
            table.append({"bits": bits, "streams": work.name, "system": name} | middle.row())
            speeds[f"{work.name} {name}"] = table[-1]["tokens/s"]
            alone_s = alone_s or middle.seconds
    ours.close()
    print(report.table(table), flush=True)
    rows += table
    return speeds


def _workload(streams: int, quarter: int, every_s: float) -> Workload:
    random = np.random.default_rng(0)
    prompts = random.integers(END + 1, SMOLLM_135M.vocabulary, (streams, PROMPT_TOKENS)).tolist()
    counts = [COUNTS[number % len(COUNTS)] // quarter for number in range(streams)]
    return Workload(name=str(streams), prompts=prompts, counts=counts, every_s=every_s)


def _load(folder: Path, threads: int) -> LoadedGraph:
    limits = SlotLimits(slots_max=SLOTS, positions=POSITIONS, cache_bytes_max=4 << 30, prefill_tokens=PROMPT_TOKENS)
    # Awake threads, as the other system's: both have the cores to themselves in turns.
    return load_graph(folder / "model.onnx", limits, model="bench", threads=threads, spin="nospin" not in sys.argv)


def _engine(graph: LoadedGraph, deliver: Any) -> Engine:
    return Engine(
        graph.runner,
        graph.cache,
        tokenizer=word_tokenizer(SMOLLM_135M.vocabulary),
        vocabulary=SMOLLM_135M.vocabulary,
        ends=[END],
        limits=EngineLimits(queue_max=64, prefill_tokens=PROMPT_TOKENS),
        deliver=deliver,
        prefixes=None,
        model="bench",
    )


def _request(prompt: Sequence[int], count: int, sampling: Sampling | None = None) -> DecodeRequest:
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
            list(pool.map(lambda part: exact_top_k(query, part, 1), rows))
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

    engine = _engine(graph, take)
    for number in range(streams):
        engine.submit(
            _request([5] * 16, 100, Sampling(temperature=sampling.temperature, top_p=sampling.top_p, seed=number))
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


if __name__ == "__main__":
    main()
