"""`make bench-rerank`: 100 passages of 128 tokens against a query through our reranker over gRPC and through other systems.

The other systems have the same weights, the adapter merged. Rounds are interleaved and all but one system are idle; every call has a
query of its own, the same for all. What a system scores is compared with sentence-transformers' float32 logits, so that nobody is
fast by reading less.
"""

import argparse
import contextlib
import itertools
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import datasets
import grpc
import numpy as np
import peer_models
import peers
import report
from numpy.typing import NDArray
from servers import Server, serving

from gannet.reranker.v1 import reranker_pb2 as pb
from gannet.reranker.v1.reranker_pb2_grpc import RerankerStub
from gannet_inference.tokens import load_tokenizer

PASSAGES = 100
PASSAGE_TOKENS = 128
CALL_TIMEOUT_S = 120
FP32_DIFFERENCE_MAX = 0.01
REFERENCE = "sentence-transformers, fp32"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One query against all passages: seconds, and the logits in the order of the passages."""

    seconds: float
    scores: Sequence[float]


@dataclass(slots=True, kw_only=True)
class Measured:
    """What the rounds gave for one system."""

    calls: list[Call] = field(default_factory=list[Call])
    peak_rss_mb: float = 0.0

    @property
    def p50_s(self) -> float:
        """The median call."""
        return statistics.median(call.seconds for call in self.calls)


class System(Protocol):
    """Something that scores passages against a query."""

    def rerank(self, query: str, passages: Sequence[str]) -> Call:
        """One call."""
        ...

    def peak_rss_mb(self) -> float:
        """The most memory it has held so far, MB."""
        ...


class Gannet:
    """Our server; the client runs in this process, on the same cores, and its work counts in our time."""

    def __init__(self, server: Server) -> None:
        """Connects."""
        channel: Any = grpc.insecure_channel(server.address)
        self._stub: Any = RerankerStub(channel)  # its type is grpc.aio's
        self.peak_rss_mb = server.peak_rss_mb

    def rerank(self, query: str, passages: Sequence[str]) -> Call:
        """See `System`."""
        started = time.perf_counter()
        reply = self._stub.Rerank(pb.RerankRequest(query=query, passages=passages), timeout=CALL_TIMEOUT_S)
        by_place = sorted(reply.results, key=lambda result: result.index)
        scores = [result.score for result in by_place]
        return Call(seconds=time.perf_counter() - started, scores=scores)


class Worker:
    """A peer's worker process."""

    def __init__(self, peer: peers.Peer, arguments: Mapping[str, Any]) -> None:
        """Has it load its model."""
        self._peer = peer
        self._peak_rss_mb = 0.0
        self.versions: dict[str, str] = peer.call("load_reranker", **arguments)["versions"]

    def rerank(self, query: str, passages: Sequence[str]) -> Call:
        """See `System`."""
        reply = self._peer.call("rerank", query=query, passages=list(passages))
        self._peak_rss_mb = reply["peak_rss_mb"]
        return Call(seconds=reply["seconds"], scores=reply["scores"])

    def peak_rss_mb(self) -> float:
        """See `System`."""
        return self._peak_rss_mb


def main() -> None:
    """Measure, print the table, write the claims."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--queries", type=int, default=4, help="calls per round, each with a query of its own")
    arguments = parser.parse_args()
    queries, passages, tokens = _data(arguments.rounds * arguments.queries)
    with contextlib.ExitStack() as stack:
        systems = _systems(stack)
        for system in systems.values():
            system.rerank("warm", passages[:8])
        measured = {label: Measured() for label in systems}
        for number, (label, system) in itertools.product(range(arguments.rounds), systems.items()):
            mine = queries[number * arguments.queries :][: arguments.queries]
            calls = [system.rerank(query, passages) for query in mine]
            measured[label].calls += calls
            measured[label].peak_rss_mb = system.peak_rss_mb()
            rate = len(calls) * PASSAGES / sum(call.seconds for call in calls)
            print(f"round {number + 1}: {label}: {rate:.1f} passages/s", flush=True)
    rows = [_row(label, one, measured[REFERENCE]) for label, one in measured.items()]
    print(f"\n{len(queries)} calls of {PASSAGES} passages, {tokens:.0f} tokens a passage\n")
    print(report.table(sorted(rows, key=lambda row: -row["passages/s"])) + "\n")
    versions = {label: one.versions for label, one in systems.items() if isinstance(one, Worker)}
    report.write("rerank", [*rows, {"tokens per passage": tokens}, {"versions": versions}], _claims(measured))


def _data(calls: int) -> tuple[list[str], list[str], float]:
    """Headings as queries, the first tokens of sections as passages, and the mean tokens of these."""
    sections = datasets.load("peps_sections")
    built = peer_models.ours(peer_models.RERANKER, "int8")
    tokenizer = load_tokenizer(built.tokenizer_file, model=built.name)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    passages: list[str] = []
    for _, text in sections.corpus.values():
        offsets: Any = tokenizer.encode(text, add_special_tokens=False).offsets
        if len(offsets) >= PASSAGE_TOKENS:
            passages.append(text[: offsets[PASSAGE_TOKENS - 1][1]])
        if len(passages) == PASSAGES:
            break
    counts = [len(tokenizer.encode(passage, add_special_tokens=False).ids) for passage in passages]
    queries = list(sections.queries.values())
    return queries[:: len(queries) // calls][:calls], passages, statistics.fmean(counts)


def _systems(stack: contextlib.ExitStack) -> dict[str, System]:
    """Ours and the others, in the order of a round; settings that were fastest for each are said in `embed_systems`."""
    model = peer_models.reranker()

    def gannet(precision: str) -> System:
        return Gannet(stack.enter_context(serving("reranker", precision=precision)))

    def worker(name: str, environment: str, **fields: Any) -> System:
        python = peers.ensure_env(environment)
        script = f"{environment.replace('-', '_')}_worker"
        return Worker(stack.enter_context(peers.Peer(f"rerank {name}", script, python=python)), fields)

    def torch(dtype: str) -> System:
        name = f"sentence-transformers {dtype}"
        return worker(name, "sentence-transformers", folder=str(model.torch), dtype=dtype, batch=32)

    def infinity(engine: str, dtype: str, folder: object, batch: int) -> System:
        fields = {"folder": str(folder), "engine": engine, "dtype": dtype, "batch": batch, "bettertransformer": False}
        return worker(f"infinity {engine} {dtype}", "infinity", **fields)

    return {
        "gannet, int8": gannet("int8"),
        REFERENCE: torch("float32"),
        "infinity (torch), fp32": infinity("torch", "float32", model.torch, 32),
        "infinity (optimum), fp32": infinity("optimum", "float32", model.onnx, 8),
        "gannet, fp32": gannet("fp32"),
        "sentence-transformers, bf16": torch("bfloat16"),
        "infinity (torch), bf16": infinity("torch", "bfloat16", model.torch, 32),
        "infinity (optimum), int8": infinity("optimum", "int8", model.int8, 8),
    }


def _row(label: str, one: Measured, reference: Measured) -> dict[str, Any]:
    """One system's figures.

    Raises:
        SystemExit: a float32 build of ours scores something else than the reference; its speed would be no comparison.
    """
    name, precision = label.split(", ")
    scores, wanted = (np.array([call.scores for call in each.calls]) for each in (one, reference))
    difference = float(np.abs(scores - wanted).max())
    if label == "gannet, fp32" and difference > FP32_DIFFERENCE_MAX:
        raise SystemExit(f"{label}: a score is {difference:.3f} off {REFERENCE}'s: not the same work")
    p50, p99 = np.percentile([call.seconds * 1e3 for call in one.calls], [50, 99])
    return {
        "system": name,
        "precision": precision,
        "passages/s": PASSAGES / one.p50_s,
        "× ST fp32": reference.p50_s / one.p50_s,
        "p50 ms": float(p50),
        "p99 ms": float(p99),
        "peak RSS MB": one.peak_rss_mb,
        "rank correlation": statistics.fmean(_spearman(a, b) for a, b in zip(scores, wanted, strict=True)),
        "largest score difference": difference,
    }


def _spearman(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Spearman's rank correlation; scores are real numbers, ties do not happen."""
    places = [np.argsort(np.argsort(values)) for values in (one, other)]
    return statistics.correlation(*[place.tolist() for place in places])


def _claims(measured: Mapping[str, Measured]) -> list[report.Claim]:
    def ratio(one: str, other: str) -> float:
        pairs = zip(measured[one].calls, measured[other].calls, strict=True)
        return statistics.median(slower.seconds / faster.seconds for faster, slower in pairs)

    def best(system: str) -> str:
        return min((label for label in measured if label.startswith(system)), key=lambda label: measured[label].p50_s)

    own = best("gannet")
    against = dict.fromkeys(
        [REFERENCE, "infinity (torch), fp32", best("sentence-transformers"), best("infinity")],
    )
    return [report.Claim(name=f"{own} / {other}", value=ratio(own, other), target=3.0) for other in against]


if __name__ == "__main__":
    main()
