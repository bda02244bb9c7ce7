"""The embedder under five times its capacity: goodput, refusals, memory, and how soon it is itself again.

    make bench-overload

The server has core 0 for itself, this load generator core 1. Every text is new. Capacity is the best of a closed loop at several
widths; then calls arrive on a clock at five times that rate, whatever the answers, each with the deadline of an impatient caller and
without retries. Documents of about 200 tokens are the workload of the claims. 16-token queries are reported beside them: at five
times *their* capacity more than a thousand calls a second arrive, and taking a call off the wire costs Python a quarter of a millisecond.
"""

import asyncio
import os
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import report
import servers

from gannet.embedder.v1 import embedder_pb2
from gannet.embedder.v1.embedder_pb2_grpc import EmbedderStub
from gannet_service.errors import from_rpc_error

SERVER_CORES, LOAD_CORES = {0}, {1}
DEADLINE_S = 1.0
OVERLOAD = 5
WIDTHS = (1, 2, 4, 8)
SWEEP_S = 4.0
QUIET_S, AFTER_S, WINDOW_S = 2.0, 5.0, 0.25
WORDS = (
    "gannet",
    "puffin",
    "gull",
    "sea",
    "wave",
    "rock",
    "cliff",
    "fish",
    "wing",
    "feather",
    "nest",
    "egg",
    "island",
    "storm",
)


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of the calls of one flood."""

    sent: int = 0
    good: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    refusals_ms: list[float] = field(default_factory=list)
    with_retry_info: int = 0


def request(words: int) -> embedder_pb2.EmbedRequest:
    """A text that nobody has sent before."""
    text = " ".join(random.choices(WORDS, k=words))  # noqa: S311 - words, not secrets
    return embedder_pb2.EmbedRequest(texts=[text], purpose=embedder_pb2.PURPOSE_PASSAGE, want_dense=True)


async def capacity(stub: Any, words: int) -> float:
    """Calls a second, the best of several widths of a closed loop."""

    async def caller(until_s: float) -> int:
        done = 0
        while time.monotonic() < until_s:
            await stub.Embed(request(words), timeout=30)
            done += 1
        return done

    best = 0.0
    for width in WIDTHS:
        started = time.monotonic()
        done = sum(await asyncio.gather(*(caller(started + SWEEP_S) for _ in range(width))))
        best = max(best, done / (time.monotonic() - started))
    return best


async def flood(stub: Any, words: int, rate: float, seconds: float) -> Outcome:
    """Calls at a fixed rate, whatever the answers; a call that is late by its own clock is sent at once."""
    outcome = Outcome()

    async def call() -> None:
        started = time.monotonic()
        try:
            await stub.Embed(request(words), timeout=DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            code = error.code().name
            outcome.failed[code] = outcome.failed.get(code, 0) + 1
            if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                outcome.refusals_ms.append((time.monotonic() - started) * 1e3)
                outcome.with_retry_info += from_rpc_error(error).retry_after_s is not None
        else:
            outcome.good += 1

    started = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        while (elapsed_s := time.monotonic() - started) < seconds:
            for _ in range(int(elapsed_s * rate) - outcome.sent):
                tasks.create_task(call())
                outcome.sent += 1
            await asyncio.sleep(1 / rate)
    return outcome


async def latencies(stub: Any, seconds: float) -> list[tuple[float, float]]:
    """One short call after the other: when each began, seconds from now, and the milliseconds that it took."""
    began = time.monotonic()
    taken: list[tuple[float, float]] = []
    while (at_s := time.monotonic() - began) < seconds:
        try:
            await stub.Embed(request(12), timeout=DEADLINE_S)
        except grpc.aio.AioRpcError:
            taken.append((at_s, DEADLINE_S * 1e3))
            await asyncio.sleep(0.01)
        else:
            taken.append((at_s, (time.monotonic() - began - at_s) * 1e3))
    return taken


def recovered_s(taken: list[tuple[float, float]], normal_ms: float) -> float:
    """The end of the last window whose median is more than 1.5 times the normal one; 0.0 where none is."""
    slow_until_s = 0.0
    for number in range(int(AFTER_S / WINDOW_S)):
        window = [ms for at_s, ms in taken if number <= at_s / WINDOW_S < number + 1]
        if not window or statistics.median(window) > 1.5 * normal_ms:
            slow_until_s = (number + 1) * WINDOW_S
    return slow_until_s


async def watch_memory(pid: int, seen: Callable[[int], None]) -> None:
    """Reports the resident set, bytes, twice a second."""
    while True:
        seen(rss_bytes(pid))
        await asyncio.sleep(0.5)


def rss_bytes(pid: int) -> int:
    """The resident set of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def measure(server: servers.Server, name: str, *, words: int, seconds: float) -> dict[str, Any]:
    """One workload: capacity, the flood, and after it."""
    async with grpc.aio.insecure_channel(server.address, options=[("grpc.enable_retries", 0)]) as channel:
        stub = EmbedderStub(channel)
        peak = await capacity(stub, words)
        normal_ms = statistics.median(ms for _, ms in await latencies(stub, QUIET_S))
        warm_bytes, resident = rss_bytes(server.pid), list[int]()
        watching = asyncio.create_task(watch_memory(server.pid, resident.append))
        outcome = await flood(stub, words, OVERLOAD * peak, seconds)
        after = await latencies(stub, AFTER_S)
        watching.cancel()
    refused = len(outcome.refusals_ms)
    return {
        "work": name,
        "capacity_per_s": peak,
        "sent_per_s": outcome.sent / seconds,
        "goodput": outcome.good / seconds / peak,
        "refused": refused,
        "other_failures": sum(outcome.failed.values()) - refused,
        "refusal_p50_ms": statistics.median(outcome.refusals_ms or [0.0]),
        "with_retry_info": outcome.with_retry_info / max(refused, 1),
        "rss_growth": max(resident) / warm_bytes,
        "normal_p50_ms": normal_ms,
        "recovered_s": recovered_s(after, normal_ms),
    }


async def main() -> None:
    """Measure, print, write."""
    random.seed(7)
    with servers.serving("embedder", cores=SERVER_CORES) as server:
        os.sched_setaffinity(0, LOAD_CORES)
        documents = await measure(server, "documents, 200 words", words=200, seconds=30.0)
        queries = await measure(server, "queries, 14 words", words=14, seconds=10.0)
    rows = [documents, queries]
    print(report.table(rows))
    claims = [
        ("goodput over capacity", documents["goodput"], 0.85, True),
        ("refusals answered, median, ms", documents["refusal_p50_ms"], 10.0, False),
        ("refusals with RetryInfo", documents["with_retry_info"], 1.0, True),
        ("refusals", float(documents["refused"]), 1.0, True),
        ("memory over warm", documents["rss_growth"], 1.1, False),
        ("seconds to normal latency", documents["recovered_s"], 2.0, False),
    ]
    report.write(
        "overload",
        rows,
        [report.Claim(name=name, value=value, target=target, at_least=side) for name, value, target, side in claims],
    )


if __name__ == "__main__":
    asyncio.run(main())
