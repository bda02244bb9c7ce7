"""`make eval`: retrieval quality of the shipped defaults, over gRPC, on data that nobody here wrote.

nDCG@10, recall@100 and MRR@10 have 95 % bootstrap intervals over queries, and so has each configuration's paired difference to hybrid.
Rows and a plot go to bench-results. `--data croatian --queries 100` measures one data set on its first 100 queries; `--generator NAME` adds
multi-query expansion by a generator in service, where one that writes is configured (`GANNET_GENERATOR_UPSTREAMS`, for one).

SciFact is BEIR's, so that published figures stand beside ours; documents are cut into passages by the default settings and a document
counts at the rank of its best passage. Published BM25 and dense figures rank whole (truncated) abstracts.
"""

import argparse
import asyncio
import itertools
import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import metrics
import report
import stack
from matplotlib.figure import Figure

from gannet_client import DocumentFailed, DocumentInput, FusionMethod, GannetClient, SearchMode, SearchOptions
from gannet_client.errors import NotFound

DATA = ("scifact", "croatian", "peps_sections")
LANGUAGES = {"croatian": "hr"}
PASSAGES = 150
CONCURRENT_QUERIES = 2
TRIES = 20
# Queries that the rows with the reranker are measured on, drawn once: it reads 20 passages for each, most of the time that all this takes.
RERANKED_QUERIES_MAX = 300
PUBLISHED_NDCG = {
    "scifact": {"dense": "0.645", "bm25": "0.665", "hybrid + rerank": "0.688 (BM25 → ms-marco-MiniLM-L6)"}
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """One query's ranked document ids, and how long the call took."""

    query: str
    documents: list[str]
    latency_ms: float


CONFIGURATIONS = {
    "dense": SearchOptions(mode=SearchMode.DENSE, rerank=False, top_k=PASSAGES),
    "bm25": SearchOptions(mode=SearchMode.SPARSE, rerank=False, top_k=PASSAGES),
    "hybrid": SearchOptions(rerank=False, top_k=PASSAGES),
    "hybrid, relative score": SearchOptions(rerank=False, top_k=PASSAGES, fusion=FusionMethod.RELATIVE_SCORE),
    "hybrid + feedback": SearchOptions(rerank=False, top_k=PASSAGES, feedback_passages=3),
    # The reranker permutes the default depth of 20 passages; recall@100 is the first stage's and is not measured again. Fewer
    # passages would be fewer than ten documents, since several may be of one.
    "hybrid + rerank": SearchOptions(rerank=True, top_k=20),
}


async def ingest(client: GannetClient, dataset: datasets.Dataset) -> str:
    """Upload the corpus unless it is there; returns the collection's id."""
    collection = dataset.name.replace("_", "-")
    texts = {key: (title, text) for key, (title, text) in dataset.corpus.items() if text.strip()}
    try:
        if (await client.get_collection(collection)).document_count == len(texts):
            return collection
    except NotFound:
        await client.create_collection(collection, language=LANGUAGES.get(dataset.name, ""))
    documents = (
        DocumentInput(document_id=key, title=title[:300], content=text.encode()) for key, (title, text) in texts.items()
    )
    started, count, chunks = time.monotonic(), 0, 0
    async for ack in client.upload(collection, documents):
        if isinstance(ack, DocumentFailed):
            raise SystemExit(f"{dataset.name}: {ack.document_id}: {ack.error}")
        count += 1
        chunks += ack.chunk_count
        if count % 500 == 0:
            print(f"\r{dataset.name}: {count}/{len(texts)} documents", end="", file=sys.stderr)
    rate = count / (time.monotonic() - started)
    print(f"\r{dataset.name}: {count} documents in {chunks} passages, {rate:.0f} documents/s", file=sys.stderr)
    return collection


async def rank(
    client: GannetClient, collection: str, dataset: datasets.Dataset, options: SearchOptions
) -> list[Ranking]:
    """Run every judged query."""
    slots = asyncio.Semaphore(CONCURRENT_QUERIES)

    async def one(query: str, text: str) -> Ranking:
        async with slots:
            for _ in range(TRIES):
                started = time.perf_counter()
                found = await client.search(collection, text, options)
                latency_ms = (time.perf_counter() - started) * 1e3
                # On a busy machine the reranker may miss its share of the deadline; such a ranking would not be the one measured.
                if not found.degraded:
                    break
            else:
                raise SystemExit(f"{dataset.name}: {TRIES} degraded searches in a row: {found.degraded}")
        documents = list(dict.fromkeys(passage.document_id for passage in found.passages))
        return Ranking(query=query, documents=documents, latency_ms=latency_ms)

    return await asyncio.gather(*(one(query, text) for query, text in dataset.queries.items()))


def each(metric: Any, dataset: datasets.Dataset, rankings: list[Ranking], k: int) -> list[float]:
    """The metric of every query, in the order of the data set's queries."""
    return [metric(ranking.documents, dataset.qrels[ranking.query], k) for ranking in rankings]


def row(
    dataset: datasets.Dataset, configuration: str, rankings: list[Ranking], hybrid: list[Ranking]
) -> dict[str, Any]:
    """The figures of one configuration; `hybrid` are the rankings that its difference is taken to, query by query."""
    reranked = "rerank" in configuration
    ndcg = each(metrics.ndcg, dataset, rankings, 10)
    recall = each(metrics.recall, dataset, rankings, 100)
    reciprocal = each(metrics.reciprocal_rank, dataset, rankings, 10)
    theirs = {ranking.query: ranking for ranking in hybrid}
    base = each(metrics.ndcg, dataset, [theirs[ranking.query] for ranking in rankings], 10)
    differences = [ours - other for ours, other in zip(ndcg, base, strict=True)]
    latencies = sorted(ranking.latency_ms for ranking in rankings)
    return {
        "data": dataset.name,
        "configuration": configuration,
        "queries": len(rankings),
        "nDCG@10": statistics.fmean(ndcg),
        "nDCG@10, 95 %": _written(metrics.interval(ndcg)),
        "minus hybrid": statistics.fmean(differences),
        "minus hybrid, 95 %": _written(metrics.interval(differences)),
        "recall@100": "as hybrid" if reranked else statistics.fmean(recall),
        "recall@100, 95 %": "" if reranked else _written(metrics.interval(recall)),
        "MRR@10": statistics.fmean(reciprocal),
        "MRR@10, 95 %": _written(metrics.interval(reciprocal)),
        "success@3": statistics.fmean(each(metrics.success, dataset, rankings, 3)),
        "published nDCG@10": PUBLISHED_NDCG.get(dataset.name, {}).get(configuration, ""),
        "p50 ms (2 clients)": round(statistics.median(latencies), 1),
        "p95 ms": round(latencies[round(0.95 * (len(latencies) - 1))], 1),
    }


def _written(bounds: tuple[float, float]) -> str:
    return f"{bounds[0]:.3f} to {bounds[1]:.3f}"


def plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """nDCG@10 of every configuration with its interval, a panel for each data set."""
    names = list(dict.fromkeys(entry["data"] for entry in rows))
    figure = Figure(figsize=(4.2 * len(names), 2.6), layout="constrained")
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for panel, name in zip(panels, names, strict=True):
        shown = [entry for entry in reversed(rows) if entry["data"] == name]
        for at, entry in enumerate(shown):
            low, high = map(float, entry["nDCG@10, 95 %"].split(" to "))
            panel.plot([low, high], [at, at], color="tab:blue", linewidth=2)
            panel.plot([entry["nDCG@10"]], [at], "o", color="tab:blue")
        panel.set_yticks(range(len(shown)), [entry["configuration"] for entry in shown])
        panel.set_title(f"{name}, {max(entry['queries'] for entry in shown)} queries", fontsize=10)
        panel.set_xlabel("nDCG@10, 95 % interval")
        panel.grid(axis="x", alpha=0.3)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)


def drawn(dataset: datasets.Dataset, most: int) -> datasets.Dataset:
    """The data set with at most so many of its queries, always the same ones."""
    kept = sorted(dataset.queries)
    if len(kept) > most:
        kept = random.Random(0).sample(kept, most)  # noqa: S311 - a sample
    return replace(dataset, queries={query: dataset.queries[query] for query in kept})


def claims(rows: list[dict[str, Any]]) -> list[report.Claim]:
    """What the issue asks of these figures."""
    ndcg = {entry["configuration"]: entry["nDCG@10"] for entry in rows if entry["data"] == "scifact"}
    gain = {entry["data"]: entry["minus hybrid"] for entry in rows if "rerank" in entry["configuration"]}
    return [
        report.Claim(name="SciFact dense nDCG@10", value=ndcg["dense"], target=0.640),
        report.Claim(name="SciFact BM25 nDCG@10", value=ndcg["bm25"], target=0.65),
        report.Claim(
            name="SciFact hybrid nDCG@10 over the better of both",
            value=ndcg["hybrid"],
            target=max(ndcg["dense"], ndcg["bm25"]),
        ),
        *(
            report.Claim(name=f"{data}: rerank minus hybrid, nDCG@10", value=value, target=0.0)
            for data, value in gain.items()
        ),
    ]


async def main() -> None:
    """Measure the data sets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=DATA, action="append", help="only this data set")
    parser.add_argument("--queries", type=int, help="only the first so many queries of each; claims nothing")
    parser.add_argument("--generator", help="also expand queries by this generator, which has to write free text")
    chosen = parser.parse_args()
    configurations = dict(CONFIGURATIONS)
    if chosen.generator:
        configurations["hybrid + multi-query"] = SearchOptions(
            rerank=False, top_k=PASSAGES, multi_query=3, multi_query_generator=chosen.generator
        )
    names: tuple[str, ...] = tuple(chosen.data or DATA)
    rows: list[dict[str, Any]] = []
    async with stack.running("eval") as client:
        for name in names:
            dataset = datasets.load(name)
            if chosen.queries:
                first = dict(itertools.islice(dataset.queries.items(), chosen.queries))
                dataset = replace(dataset, queries=first)
            collection = await ingest(client, dataset)
            measured: dict[str, list[Ranking]] = {}
            for configuration, options in configurations.items():
                asked = drawn(dataset, RERANKED_QUERIES_MAX) if options.rerank else dataset
                measured[configuration] = await rank(client, collection, asked, options)
                print(f"{name} {configuration}: measured", file=sys.stderr)
            rows += [
                row(dataset, configuration, rankings, measured["hybrid"])
                for configuration, rankings in measured.items()
            ]
            # So that a run that is stopped has said what it found.
            print(report.table([entry for entry in rows if entry["data"] == name]), flush=True)
    plot(rows, report.RESULTS / "eval.png")
    if names == DATA and not chosen.queries:
        report.write("eval", rows, claims(rows))


if __name__ == "__main__":
    asyncio.run(main())
