"""`make bench-generate`: our decode loop beside onnxruntime-genai on the same graphs, on the same cores, in turns.

A 135M-parameter decoder of SmolLM's shape with random weights in fp32, int8 and int4; prompts of 32 and of 128 tokens, answers of 16 to
128, greedy. Streams arrive eight in the time that one of 64 tokens takes alone. onnxruntime-genai has no continuous batching on a CPU: it
is measured one request after the other and with everything that waits as one batch, and held to the better of the two. Both have the
same cores, the same priority and threads that wait awake. Arguments: `quick` asks for a quarter of the tokens, `nospin` has our threads
sleep while they wait, as servers have them by default; precisions (`fp32`, `int8`, `int4`) leave out the others.
"""

import itertools
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import report
from decoder_cost import bench_engine, cpu_us_per_token, decode_request, memory_bytes_per_s
from decoder_models import END, SMOLLM_135M, decoder_folder, weight_bytes
from peers import Peer, ensure_env

from gannet_inference.decoder.opening import LoadedGraph, SlotLimits, load_graph
from gannet_inference.decoder.request import Chunk, Sampling
from gannet_inference.decoder.stream import Stream
from gannet_inference.session import cores_available
from gannet_kernels import compile_all

PRECISIONS = {"fp32": 32, "int8": 8, "int4": 4}
PROMPT_TOKENS = (32, 128)
# As servers have it.
PREFILL_TOKENS = 128
SLOTS = 16
POSITIONS = 256
COUNTS = (64, 16, 128, 32)
ARRIVALS_PER_ANSWER = 8
OURS, SEQUENTIAL, BATCHED = "ours", "genai, one by one", "genai, batched"
# Who is measured in which order, by streams; the middle one of a system's runs counts.
TURNS = {1: (OURS, SEQUENTIAL) * 3, 4: (OURS, BATCHED, SEQUENTIAL), 16: (OURS, BATCHED, SEQUENTIAL)}
BATCH_MAX = {SEQUENTIAL: 1, BATCHED: 16}
ONE_STREAM_MIN, STAGGERED_MIN, CPU_US_MAX = 1.0, 2.0, 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Prompts that arrive one every so often, and how many tokens each asks for."""

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
        self._engine = bench_engine(graph, self._take, prefill_tokens=PREFILL_TOKENS)
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
            streams.append(self._engine.submit(decode_request(prompt, count)))
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
    chosen = [name for name in PRECISIONS if name in sys.argv] or list(PRECISIONS)
    for precision in chosen:
        bits = PRECISIONS[precision]
        folder = decoder_folder(bits, threads)
        with Peer("onnxruntime-genai", "genai_worker", python=ensure_env("genai")) as peer:
            print(peer.call("load", folder=str(folder))["versions"], flush=True)
            graph = _load(folder, threads)
            for length in PROMPT_TOKENS:
                label = f"{precision}, prompts of {length}"
                found, step_s = _compare(label, graph, peer, length, quarter)
                share = weight_bytes(bits) / step_s / bandwidth
                print(
                    f"{label}: one stream reads {share:.2f} of the {bandwidth / 1e9:.1f} GB/s that the cores can read"
                )
                rows += [*found, {"graph": label, "memory GB/s": bandwidth / 1e9, "share of it at one stream": share}]
                claims += _speed_claims(label, found)
        if precision == chosen[-1]:
            claims += _cost_claims(graph)
    report.write("generate", rows, claims)


def _cost_claims(graph: LoadedGraph) -> list[report.Claim]:
    claims: list[report.Claim] = []
    for streams, sampling in itertools.product((1, 16), (Sampling(), Sampling(temperature=0.8, top_p=0.95))):
        cost_us = cpu_us_per_token(graph, streams, sampling)
        name = f"CPU us a token outside of the model, {streams} streams, temperature {sampling.temperature:g}"
        claims.append(report.Claim(name=name, value=cost_us, target=CPU_US_MAX, at_least=False))
    return claims


def _compare(
    label: str, graph: LoadedGraph, peer: Peer, length: int, quarter: int
) -> tuple[list[dict[str, Any]], float]:
    """A row for each number of streams and system, and our seconds between two tokens of one stream."""
    ours = Ours(graph)
    table: list[dict[str, Any]] = []
    alone_s = step_s = 0.0
    for streams in (1, 4, 16):
        work = _workload(streams, length, quarter, alone_s / ARRIVALS_PER_ANSWER)
        outcomes: dict[str, list[Outcome]] = {}
        if streams == 1:
            ours.run(work)  # warms up, as the other system's first turn does
            _theirs(peer, work, 1)
        for name in TURNS[streams]:
            outcome = ours.run(work) if name == OURS else _theirs(peer, work, BATCH_MAX[name])
            outcomes.setdefault(name, []).append(outcome)
        for name, taken in outcomes.items():
            middle = sorted(taken, key=lambda outcome: outcome.seconds)[len(taken) // 2]
            table.append({"graph": label, "streams": streams, "system": name} | middle.row())
            if streams == 1 and name == OURS:
                alone_s, step_s = middle.seconds, table[-1]["gap ms, p50"] / 1e3
    ours.close()
    print(report.table(table), flush=True)
    return table, step_s


def _theirs(peer: Peer, work: Workload, batch_max: int) -> Outcome:
    reply = peer.call("staggered", prompts=work.prompts, counts=work.counts, every_s=work.every_s, batch_max=batch_max)
    return Outcome(seconds=reply["seconds"], times_s=reply["times_s"])


def _speed_claims(label: str, table: Sequence[dict[str, Any]]) -> list[report.Claim]:
    """Ours beside the better of the other's ways."""

    def ratio(streams: int) -> float:
        speeds = {row["system"]: row["tokens/s"] for row in table if row["streams"] == streams}
        return speeds[OURS] / max(speed for name, speed in speeds.items() if name != OURS)

    better = "times the better of onnxruntime-genai's two ways"
    return [
        report.Claim(name=f"{label}, one stream, times onnxruntime-genai", value=ratio(1), target=ONE_STREAM_MIN),
        report.Claim(name=f"{label}, 16 staggered streams, {better}", value=ratio(16), target=STAGGERED_MIN),
    ]


def _workload(streams: int, length: int, quarter: int, every_s: float) -> Workload:
    random = np.random.default_rng(0)
    prompts = random.integers(END + 1, SMOLLM_135M.vocabulary, (streams, length)).tolist()
    counts = [COUNTS[number % len(COUNTS)] // quarter for number in range(streams)]
    return Workload(prompts=prompts, counts=counts, every_s=every_s)


def _load(folder: Path, threads: int) -> LoadedGraph:
    limits = SlotLimits(slots_max=SLOTS, positions=POSITIONS, cache_bytes_max=4 << 30, prefill_tokens=PREFILL_TOKENS)
    # Awake threads, as the other system's: both have the cores to themselves in turns.
    return load_graph(folder / "model.onnx", limits, model="bench", threads=threads, spin="nospin" not in sys.argv)


if __name__ == "__main__":
    main()
