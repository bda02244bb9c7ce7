"""Latency of one query through the embedder, beside a bare `session.run` of the same model file, and of a small rerank.

    make bench-embed-latency

Every side is a process of its own and idle while another one runs; they take turns in one run. The client is the plain synchronous
stub. The bulk lane is saturated by callers of one text each, so that the server's timings give each run of the model by itself: the
longest of them is the "bulk batch" that a query may have to wait for.
"""

import multiprocessing
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, cast

import grpc
import numpy as np
import onnxruntime
import report
import servers

from gannet.embedder.v1 import embedder_pb2
from gannet.embedder.v1.embedder_pb2_grpc import EmbedderStub
from gannet.reranker.v1 import reranker_pb2
from gannet.reranker.v1.reranker_pb2_grpc import RerankerStub
from gannet_inference.manifest import load_manifest
from gannet_inference.store import ensure_built
from gannet_inference.tokens import TextTokenizer, load_tokenizer

MODEL = "all-minilm-l6-v2"
# 16 tokens with the two special ones.
QUERY = "how deep does the northern gannet dive when it hunts for fish now"
PASSAGE = "Gannet number {} dives twenty metres deep."
BULK_TEXT = " ".join(
    f"The northern gannet number {number} folds its wings and swims after fish." for number in range(16)
)
BULK_CALLERS = 8
BULK_WARM_S = 1.0
WARM_CALLS, ROUNDS, CALLS, RERANKS, LOADED_CALLS = 50, 5, 120, 20, 400
TIMEOUT_S = 20.0


def timed(call: Callable[[], object], times: int) -> list[float]:
    """Milliseconds of each of so many calls, one after the other."""
    taken_ms: list[float] = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        taken_ms.append((time.perf_counter() - started) * 1e3)
    return taken_ms


def answer(pipe: Connection, call: Callable[[], object]) -> None:
    """Warms up, then makes as many calls as each message asks for and sends back their times; 0 ends it."""
    timed(call, WARM_CALLS)
    pipe.send("ready")
    while times := pipe.recv():
        pipe.send(timed(call, times))


def bare(pipe: Connection, _address: str) -> None:
    """ONNX Runtime alone on the query's ids, one thread: what no server can be faster than."""
    built = ensure_built(load_manifest(None).entry(MODEL), None, servers.MODELS)
    tokenizer = TextTokenizer(load_tokenizer(built.tokenizer_file, model=built.name), tokens_max=built.tokens_max)
    ids = tokenizer.encode([built.prompts["query"] + QUERY])[0].ids[None, :]
    options: Any = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session: Any = onnxruntime.InferenceSession(str(built.model_file), options, providers=["CPUExecutionProvider"])
    values = {"input_ids": ids, "token_type_ids": np.zeros_like(ids), "attention_mask": np.ones_like(ids)}
    feeds = {entry.name: values[entry.name] for entry in session.get_inputs()}
    answer(pipe, lambda: session.run(None, feeds))


def query(pipe: Connection, address: str) -> None:
    """The query through the embedder."""
    request = embedder_pb2.EmbedRequest(texts=[QUERY], purpose=embedder_pb2.PURPOSE_QUERY, want_dense=True)
    with grpc.insecure_channel(address) as channel:
        stub: Any = EmbedderStub(cast("Any", channel))  # the stubs are typed for asyncio
        answer(pipe, lambda: stub.Embed(request, timeout=TIMEOUT_S))


def rerank(pipe: Connection, address: str) -> None:
    """Ten short passages through the reranker."""
    passages = [PASSAGE.format(number) for number in range(10)]
    request = reranker_pb2.RerankRequest(query=QUERY, passages=passages)
    with grpc.insecure_channel(address) as channel:
        stub: Any = RerankerStub(cast("Any", channel))
        answer(pipe, lambda: stub.Rerank(request, timeout=TIMEOUT_S))


def bulk(pipe: Connection, address: str) -> None:
    """Callers that keep the bulk lane full until told to stop; sends the milliseconds of each run of the model."""
    request = embedder_pb2.EmbedRequest(
        texts=[BULK_TEXT],
        purpose=embedder_pb2.PURPOSE_PASSAGE,
        priority=embedder_pb2.PRIORITY_BULK,
        want_dense=True,
    )
    stop, runs_ms = threading.Event(), list[float]()
    with grpc.insecure_channel(address) as channel:
        stub: Any = EmbedderStub(cast("Any", channel))  # the stubs are typed for asyncio

        def keep_calling() -> None:
            while not stop.is_set():
                runs_ms.append(stub.Embed(request, timeout=TIMEOUT_S).timings.inference_us / 1e3)

        callers = [threading.Thread(target=keep_calling) for _ in range(BULK_CALLERS)]
        for caller in callers:
            caller.start()
        time.sleep(BULK_WARM_S)
        pipe.send("ready")
        pipe.recv()
        stop.set()
        for caller in callers:
            caller.join()
    pipe.send(runs_ms)


class Side:
    """A process that measures when it is asked to."""

    def __init__(self, work: Callable[[Connection, str], None], address: str = "") -> None:
        """Starts it and waits until it is warm."""
        self._pipe, theirs = multiprocessing.get_context("spawn").Pipe()
        self._process = multiprocessing.get_context("spawn").Process(target=work, args=(theirs, address), daemon=True)
        self._process.start()
        self._pipe.recv()

    def ask(self, times: int) -> list[float]:
        """Milliseconds, of so many calls."""
        self._pipe.send(times)
        return self._pipe.recv()

    def end(self) -> None:
        """Lets the process end."""
        self._pipe.send(0)
        self._process.join()


def row(name: str, taken_ms: Sequence[float]) -> dict[str, Any]:
    """The figures of one side."""
    quantiles = statistics.quantiles(taken_ms, n=100)
    return {"side": name, "calls": len(taken_ms), "p50_ms": statistics.median(taken_ms), "p99_ms": quantiles[98]}


def main() -> None:
    """Measure, print, write."""
    taken: dict[str, list[float]] = {"bare": [], "query": [], "rerank": []}
    with servers.serving("embedder") as embedder, servers.serving("reranker") as reranker:
        sides = {
            "bare": (Side(bare), CALLS),
            "query": (Side(query, embedder.address), CALLS),
            "rerank": (Side(rerank, reranker.address), RERANKS),
        }
        for _ in range(ROUNDS):
            for name, (side, times) in sides.items():
                taken[name] += side.ask(times)
        background = Side(bulk, embedder.address)
        taken["query, bulk lane full"] = sides["query"][0].ask(LOADED_CALLS)
        taken["bulk run"] = background.ask(0)
        for side, _ in sides.values():
            side.end()
    rows = [row(name, taken_ms) for name, taken_ms in taken.items()]
    p50_ms = {one["side"]: one["p50_ms"] for one in rows}
    loaded_ms = rows[3]["p99_ms"]
    longest_ms = max(taken["bulk run"])
    print(report.table(rows))
    print(f"query over bare, p50: {p50_ms['query'] / p50_ms['bare']:.2f} times")
    report.write(
        "embed-latency",
        rows,
        [
            report.Claim(
                name="16-token query over bare session.run, p50, ms",
                value=p50_ms["query"] - p50_ms["bare"],
                target=0.6,
                at_least=False,
            ),
            report.Claim(name="16-token query, p50, ms", value=p50_ms["query"], target=5.0, at_least=False),
            report.Claim(name="rerank of 10 passages, p50, ms", value=p50_ms["rerank"], target=20.0, at_least=False),
            report.Claim(
                name="query with the bulk lane full, p99, ms, against 5 unloaded medians and the longest bulk run",
                value=loaded_ms,
                target=5 * p50_ms["query"] + longest_ms,
                at_least=False,
            ),
        ],
    )


if __name__ == "__main__":
    main()
