"""`make bench-ingest`: documents through UploadDocuments until they are searchable, beside the embedder alone with the same passages.

Everything is on this machine: the stack as `gannet up` starts it, and the client in this process, whose work counts in our time. Two
kinds of documents: *short*, about 100 tokens cut from SciFact's abstracts, and *abstracts*, whole. The embedder alone gets the passages
that the documents are cut into, in BULK requests, several on their way. Rounds take turns, every text is new to its round and to the
stack; ratios are medians of each round's ratio. Then the gateway's memory: after N documents, after 10 N, and with one large one.
"""

import argparse
import asyncio
import contextlib
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import datasets
import grpc
import report
import stack
from bench_overload import rss_bytes, watch_memory
from bench_search import cpu_s

from gannet.embedder.v1 import embedder_pb2 as pb
from gannet.embedder.v1.embedder_pb2_grpc import EmbedderStub
from gannet_client import GannetClient
from gannet_client.errors import NotFound
from gannet_client.types import DocumentIndexed, DocumentInput
from gannet_gateway.documents.chunking import chunk

NAME = "bench-ingest"
COLLECTION = "bench"
SERVICES = ("gateway", "embedder", "edge")
CHUNK_SIZE, CHUNK_OVERLAP = 1000, 150
SHORT_WORDS = 68
STREAMS = 4
REQUEST_TEXTS, REQUESTS_IN_FLIGHT = 16, 8
CALL_TIMEOUT_S = 120
WARM_DOCUMENTS = 64
LARGE_BYTES = 1 << 20


class Uploads:
    """Sends documents, each under an id of its own."""

    def __init__(self, client: GannetClient) -> None:
        self._client = client
        self._sent = 0

    async def send(self, texts: Sequence[str]) -> tuple[float, int]:
        """Upload and wait for the last acknowledgement; the seconds that it took, and the passages that were stored."""
        started = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            streams = [tasks.create_task(self._stream(texts[first::STREAMS])) for first in range(STREAMS)]
        return time.perf_counter() - started, sum(stream.result() for stream in streams)

    async def _stream(self, texts: Sequence[str]) -> int:
        passages = 0
        async for ack in self._client.upload(COLLECTION, self._documents(texts), ack_timeout_s=CALL_TIMEOUT_S):
            if not isinstance(ack, DocumentIndexed) or ack.unchanged:
                raise SystemExit(f"not stored: {ack}")
            passages += ack.chunk_count
        return passages

    def _documents(self, texts: Iterable[str]) -> Iterator[DocumentInput]:
        for text in texts:
            self._sent += 1
            yield DocumentInput(document_id=f"d{self._sent}", content=text.encode())


async def embed(stub: Any, texts: Sequence[str]) -> tuple[float, int]:
    """All texts through the embedder alone; the seconds that it took, and the tokens that it read."""
    waiting = iter([texts[at : at + REQUEST_TEXTS] for at in range(0, len(texts), REQUEST_TEXTS)])

    async def caller() -> int:
        tokens = 0
        for some in waiting:
            request = pb.EmbedRequest(
                texts=some,
                purpose=pb.PURPOSE_PASSAGE,
                priority=pb.PRIORITY_BULK,
                want_dense=True,
                want_sparse=True,
            )
            response = await stub.Embed(request, timeout=CALL_TIMEOUT_S)
            tokens += sum(result.token_count for result in response.results)
        return tokens

    started = time.perf_counter()
    tokens = sum(await asyncio.gather(*(caller() for _ in range(REQUESTS_IN_FLIGHT))))
    return time.perf_counter() - started, tokens


async def one_round(kind: str, texts: Sequence[str], uploads: Uploads, stub: Any) -> dict[str, Any]:
    """The embedder alone, then the whole way."""
    passages = [piece.text for text in texts for piece in chunk(text, size=CHUNK_SIZE, overlap=CHUNK_OVERLAP)]
    alone_s, tokens = await embed(stub, passages)
    before = cpu_s(SERVICES, NAME)
    taken_s, stored = await uploads.send(texts)
    spent = {name: seconds - before[name] for name, seconds in cpu_s(SERVICES, NAME).items()}
    row = {
        "documents": kind,
        "tokens each": tokens / len(texts),
        "passages": len(passages),
        "passages stored": stored,
        "documents/s": len(texts) / taken_s,
        "tokens/s": tokens / taken_s,
        "embedder alone documents/s": len(texts) / alone_s,
        "ratio": alone_s / taken_s,
        **{f"{name} CPU ms": 1e3 * seconds / len(texts) for name, seconds in spent.items()},
    }
    print(
        ", ".join(f"{key} {value:.2f}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()),
        flush=True,
    )
    return row


async def memory(uploads: Uploads, texts: Sequence[str], large: str) -> dict[str, Any]:
    """The gateway's resident set, bytes: after a tenth of `texts`, after all of them, and at most with one large document."""
    pid = stack.services(NAME)["gateway"]["pid"]
    few = len(texts) // 10
    await uploads.send(texts[:few])
    after_few = rss_bytes(pid)
    await uploads.send(texts[few:])
    after_all = rss_bytes(pid)
    seen = [after_all]
    watching = asyncio.create_task(watch_memory(pid, seen.append))
    large_s, _ = await uploads.send([large])
    watching.cancel()
    return {
        "few": few,
        "RSS MB": after_few / 1e6,
        "all": len(texts),
        "RSS MB then": after_all / 1e6,
        "large bytes": len(large.encode()),
        "large s": large_s,
        "RSS MB with it": max(seen) / 1e6,
    }


def claims(rows: Sequence[dict[str, Any]], held: dict[str, Any]) -> list[report.Claim]:
    """What the issue asks."""

    def median(kind: str, column: str) -> float:
        return statistics.median(row[column] for row in rows if row["documents"] == kind)

    growth = held["RSS MB then"] / held["RSS MB"]
    large = held["RSS MB with it"] / held["RSS MB then"]
    return [
        report.Claim(name="short documents a second", value=median("short", "documents/s"), target=100),
        report.Claim(name="share of the embedder alone, short", value=median("short", "ratio"), target=0.9),
        report.Claim(name="share of the embedder alone, abstracts", value=median("abstracts", "ratio"), target=0.9),
        report.Claim(name="memory after 10 N over N documents", value=growth, target=1.1, at_least=False),
        report.Claim(name="memory with one document of 1 MB over before", value=large, target=1.1, at_least=False),
    ]


async def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=300, help="documents a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round of short documents, no memory; claims nothing")
    chosen = parser.parse_args()
    corpus = [f"{title}. {text}".replace("\n", " ") for title, text in datasets.load("scifact").corpus.values()]
    pieces = (
        " ".join(words[at : at + SHORT_WORDS])
        for words in (text.split() for text in corpus)
        for at in range(0, len(words) - SHORT_WORDS + 1, SHORT_WORDS)
    )
    short, abstracts = list(pieces), iter(corpus)
    fresh = iter(short)

    def take(texts: Iterator[str], count: int) -> list[str]:
        taken = [text for text, _ in zip(texts, range(count), strict=False)]
        if len(taken) < count:
            raise SystemExit("there are no texts left that nobody has sent")
        return taken

    rows: list[dict[str, Any]] = []
    async with stack.running(NAME) as client:
        with contextlib.suppress(NotFound):
            await client.delete_collection(COLLECTION)
        await client.create_collection(COLLECTION, chunk_size=CHUNK_SIZE, chunk_overlap=CHUNK_OVERLAP)
        uploads = Uploads(client)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{stack.services(NAME)['embedder']['port']}") as channel:
            stub = EmbedderStub(channel)
            await uploads.send(take(fresh, WARM_DOCUMENTS))
            for _ in range(1 if chosen.quick else chosen.rounds):
                rows.append(await one_round("short", take(fresh, chosen.documents), uploads, stub))
                if not chosen.quick:
                    rows.append(await one_round("abstracts", take(abstracts, chosen.documents // 3), uploads, stub))
        if chosen.quick:
            return
        held = await memory(uploads, take(fresh, 10 * chosen.documents), " ".join(corpus)[:LARGE_BYTES])
    print(report.table(rows))
    print(report.table([held]))
    report.write("ingest", [*rows, held], claims(rows, held))


if __name__ == "__main__":
    asyncio.run(main())
