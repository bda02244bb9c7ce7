"""`make eval`: retrieval quality of the shipped defaults, over gRPC, on data that nobody here wrote.

nDCG@10 has a 95 % bootstrap interval over queries, and so has each configuration's paired difference to hybrid.
`--data croatian --queries 100` measures one data set on its first 100 queries.

SciFact is BEIR's, so that published figures stand beside ours; documents are cut into passages by the default settings and a document
counts at the rank of its best passage. Published BM25 and dense figures rank whole (truncated) abstracts.
"""

import argparse
import asyncio
import itertools
import statistics
import sys
import time
from dataclasses import dataclass, replace
from typing import Any

import datasets
import metrics
import report
import stack

from gannet_client import DocumentFailed, DocumentInput, FusionMethod, GannetClient, SearchMode, SearchOptions
from gannet_client.errors import NotFound

DATA = ("scifact", "peps_sections", "croatian")
LANGUAGES = {"croatian": "hr"}
PASSAGES = 150
CONCURRENT_QUERIES = 2
TRIES = 5
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
    dataset: datasets.Dataset, configuration: str, rankings: list[Ranking], hybrid: list[float] | None
) -> dict[str, Any]:
    """The figures of one configuration; `hybrid` is the nDCG@10 of each query there, for the difference."""

    def mean(metric: Any, k: int) -> float:
        return statistics.fmean(each(metric, dataset, rankings, k))

    deep = "rerank" not in configuration
    ndcg = each(metrics.ndcg, dataset, rankings, 10)
    differences = [ours - theirs for ours, theirs in zip(ndcg, hybrid or ndcg, strict=True)]
    return {
        "data": dataset.name,
        "configuration": configuration,
        "nDCG@10": mean(metrics.ndcg, 10),
        "95 %": _written(metrics.interval(ndcg)),
        "minus hybrid, 95 %": "" if hybrid is None else _written(metrics.interval(differences)),
        "recall@100": mean(metrics.recall, 100) if deep else "as hybrid",
        "MRR@10": mean(metrics.reciprocal_rank, 10),
        "success@3": mean(metrics.success, 3),
        "published nDCG@10": PUBLISHED_NDCG.get(dataset.name, {}).get(configuration, ""),
        "p50 ms (2 clients)": round(statistics.median(ranking.latency_ms for ranking in rankings), 1),
    }


def _written(bounds: tuple[float, float]) -> str:
    return f"{bounds[0]:.3f} to {bounds[1]:.3f}"


def claims(rows: list[dict[str, Any]]) -> list[report.Claim]:
    """What the issue asks of these figures."""
    ndcg = {entry["configuration"]: entry["nDCG@10"] for entry in rows if entry["data"] == "scifact"}
    peps = {entry["configuration"]: entry["success@3"] for entry in rows if entry["data"] == "peps_sections"}
    return [
        report.Claim(name="SciFact dense nDCG@10", value=ndcg["dense"], target=0.640),
        report.Claim(name="SciFact BM25 nDCG@10", value=ndcg["bm25"], target=0.65),
        report.Claim(
            name="SciFact hybrid nDCG@10 over the better of both",
            value=ndcg["hybrid"],
            target=max(ndcg["dense"], ndcg["bm25"]),
        ),
        report.Claim(
            name="SciFact rerank minus hybrid, nDCG@10", value=ndcg["hybrid + rerank"] - ndcg["hybrid"], target=0.0
        ),
        report.Claim(
            name="PEP sections rerank minus hybrid, success@3",
            value=peps["hybrid + rerank"] - peps["hybrid"],
            target=0.0,
        ),
    ]


async def main() -> None:
    """Measure the data sets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=DATA, action="append", help="only this data set")
    parser.add_argument("--queries", type=int, help="only the first so many queries of each; claims nothing")
    chosen = parser.parse_args()
    names: tuple[str, ...] = tuple(chosen.data or DATA)
    rows: list[dict[str, Any]] = []
    async with stack.running("eval") as client:
        for name in names:
            dataset = datasets.load(name)
            if chosen.queries:
                first = dict(itertools.islice(dataset.queries.items(), chosen.queries))
                dataset = replace(dataset, queries=first)
            collection = await ingest(client, dataset)
            measured = {
                configuration: await rank(client, collection, dataset, options)
                for configuration, options in CONFIGURATIONS.items()
            }
            hybrid = each(metrics.ndcg, dataset, measured["hybrid"], 10)
            for configuration, rankings in measured.items():
                rows.append(row(dataset, configuration, rankings, None if configuration == "hybrid" else hybrid))
                print(f"{name} {configuration}: nDCG@10 {rows[-1]['nDCG@10']:.4f}", file=sys.stderr)
    print(report.table(rows))
    if names == DATA and not chosen.queries:
        report.write("eval", rows, claims(rows))


if __name__ == "__main__":
    asyncio.run(main())
