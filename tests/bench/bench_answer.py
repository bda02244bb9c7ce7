"""`make bench-answer`: whole extractive answers over gRPC, five passages reranked, from 100,000 passages, for 1 to 128 callers.

The stack is that of `gannet up`, and so are its settings; the passages are those of `make bench-search`. *cold* asks every question once;
*embedded* asks what was asked before with other fusion weights, so that the query's vector is known and the rest is not. Deadlines are
long: what is measured is the wait, and a caller who gets no answer ends the measurement.
"""

import argparse
import asyncio
import base64
import itertools
import statistics
from collections.abc import Sequence
from functools import partial
from typing import Any

import bench_search
import peers
import report
import search_corpus
import stack

from gannet.gateway.v1 import answer_pb2, search_pb2

METHOD = "/gannet.gateway.v1.AnswerService/Answer"
CLIENTS = (1, 8, 32, 128)
PASSAGES = 5
REPEATED = 64
REQUESTS_A_RUN = 1000
SERVICES = ("gateway", "embedder", "edge", "reranker", "generator")
# What the stages were expected to take at one client, ms; what nobody guessed stands without.
EXPECTED_MS = {"embed": 30, "search": 10, "rerank": 20, "generate": None, "whole answer": None}


class Questions:
    """Encoded requests of both kinds."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._repeated = texts[:REPEATED]
        self._fresh = iter(texts[REPEATED:])
        self._weight = itertools.count(1)

    def warm(self) -> list[str]:
        """The questions that are asked again later."""
        return [encoded(text) for text in self._repeated]

    def embedded(self) -> list[str]:
        """Questions that were asked, no two requests alike."""
        texts = itertools.islice(itertools.cycle(self._repeated), REQUESTS_A_RUN)
        return [encoded(text, dense_weight=1 + next(self._weight) / 2**18) for text in texts]

    def cold(self) -> list[str]:
        """Questions that were not asked yet."""
        return [encoded(text) for text in itertools.islice(self._fresh, REQUESTS_A_RUN)]


def encoded(text: str, dense_weight: float | None = None) -> str:
    """A request, as the load takes it."""
    options = search_pb2.SearchOptions(
        top_k=PASSAGES,
        rerank=search_pb2.RerankOptions(enabled=True, depth=PASSAGES),
        fusion=search_pb2.FusionOptions(dense_weight=dense_weight),
    )
    parent = f"tenants/-/collections/{bench_search.COLLECTION}"
    request = answer_pb2.AnswerRequest(parent=parent, query=text, search=options)
    return base64.b64encode(request.SerializeToString()).decode()


def stages(replies: Sequence[str]) -> dict[str, float]:
    """Medians over whole answers of what each stage took, ms."""
    taken: dict[str, list[float]] = {name: [] for name in EXPECTED_MS}
    for reply in replies:
        answer = answer_pb2.AnswerResponse.FromString(base64.b64decode(reply))
        timings = answer.completed.timings
        search = timings.search
        parts = (search.embed_us, search.search_us, search.rerank_us, timings.total_us - search.total_us)
        for name, taken_us in zip(EXPECTED_MS, (*parts, timings.total_us), strict=True):
            taken[name].append(taken_us / 1e3)
    return {name: statistics.median(values) for name, values in taken.items()}


def answered(replies: Sequence[str]) -> float:
    """The share of answers that say something; the others say that no passage answers."""
    said = (answer_pb2.AnswerResponse.FromString(base64.b64decode(reply)).completed.text for reply in replies)
    return statistics.fmean(bool(text) for text in said)


def claims(rows: Sequence[dict[str, Any]]) -> list[report.Claim]:
    """What the issue asks."""
    p50_ms = {row["search"]: row["p50 ms"] for row in rows if row["clients"] == 1}
    most = max(row["clients"] for row in rows)
    return [
        report.Claim(
            name="answer, embedding cached, 1 client, p50 ms", value=p50_ms["embedded"], target=230, at_least=False
        ),
        report.Claim(name="answer, 1 client, p50 ms", value=p50_ms["cold"], target=260, at_least=False),
        report.Claim(name="callers served at once, the refused ones when they asked again", value=most, target=100),
    ]


async def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, action="append", help="only so many callers; claims nothing")
    chosen = parser.parse_args()
    questions = Questions(search_corpus.queries())
    rows: list[dict[str, Any]] = []
    alone: dict[str, dict[str, float]] = {}
    async with stack.running(bench_search.NAME) as client:
        await bench_search.prepare(client)
        with peers.Peer("answer load", "search_load_worker") as load:
            load.call("connect", **bench_search.gateway(), method=METHOD)

            replies: list[str] = []

            def ask(requests: list[str], clients: int) -> dict[str, Any]:
                reply = load.call(
                    "run", requests=requests, clients=clients, seconds=bench_search.SECONDS, keep=len(requests)
                )
                replies[:] = reply["replies"]
                return reply

            ask(questions.warm(), 1)
            for clients in chosen.clients or CLIENTS:
                for kind in ("embedded", "cold"):
                    requests = getattr(questions, kind)()
                    work = partial(ask, requests, clients)
                    rows.append(bench_search.measured(kind, clients, work, SERVICES))
                    rows[-1]["answered"] = answered(replies)
                    if clients == 1:
                        alone[kind] = stages(replies)
    print(report.table(rows))
    table = [
        {"stage, 1 client, p50 ms": stage, "expected": expected or "", **{kind: alone[kind][stage] for kind in alone}}
        for stage, expected in EXPECTED_MS.items()
    ]
    print(report.table(table))
    if not chosen.clients:
        report.write("answer", [*rows, *table], claims(rows))


if __name__ == "__main__":
    asyncio.run(main())
