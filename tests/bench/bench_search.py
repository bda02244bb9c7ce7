"""`make bench-search`: searches of 100,000 passages over gRPC, beside a haystack pipeline over the same vector server.

Everything is on this machine: the stack as `gannet up` starts it, the callers in a process of their own, several connections each. Three
kinds of searches, hybrid and without reranking: *cached* asks what was asked before; *embedded* asks for the same texts with other fusion
weights, so that their vectors are known and the result is not; *cold* asks every question once. The haystack pipeline embeds with
sentence-transformers, has the same vectors in a collection of its own in the same vector server, no filter to obey and no server in
front of it: threads call it as a library.
"""

import argparse
import asyncio
import base64
import contextlib
import itertools
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import peer_models
import peers
import report
import search_corpus
import stack

from gannet.gateway.v1 import search_pb2
from gannet_client import GannetClient
from gannet_client.errors import NotFound
from gannet_gateway.names import parse_collection
from gannet_gateway.vectors.points import qdrant_collection
from gannet_lexical.sparse import Bm25Encoder
from gannet_service import call
from gannet_service.call import Call, Principal

NAME = "bench-search"
COLLECTION = "bench"
TENANT = "default"
METHOD = "/gannet.gateway.v1.SearchService/Search"
CLIENTS = (1, 8, 32, 128)
SECONDS = 6.0
TOP_K = 10
REPEATED = 64
COLD_PER_S_MAX = 400
SERVICES = ("gateway", "embedder", "edge")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
FILLED = search_corpus.HOME / "filled"


class Requests:
    """Encoded requests of the three kinds."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._repeated = texts[:REPEATED]
        self._fresh = iter(texts[REPEATED:])
        self._weight = itertools.count(1)

    def cached(self, clients: int) -> list[str]:
        """The same few texts."""
        del clients
        return [_request(text) for text in self._repeated]

    def embedded(self, clients: int) -> list[str]:
        """The same few texts, no two requests alike."""
        del clients
        count = int(COLD_PER_S_MAX * SECONDS)
        texts = itertools.islice(itertools.cycle(self._repeated), count)
        # Too little to change an order, enough to change the key.
        return [_request(text, dense_weight=1 + next(self._weight) / 2**18) for text in texts]

    def cold(self, clients: int) -> list[str]:
        """Texts that were not asked for yet."""
        del clients
        return [_request(text) for text in self.fresh()]

    def fresh(self) -> list[str]:
        """Texts that nobody was given yet, enough for one pass."""
        texts = list(itertools.islice(self._fresh, int(COLD_PER_S_MAX * SECONDS)))
        if len(texts) < COLD_PER_S_MAX:
            raise SystemExit("there are no questions left to ask")
        return texts


def _request(text: str, dense_weight: float | None = None) -> str:
    options = search_pb2.SearchOptions(
        top_k=TOP_K,
        rerank=search_pb2.RerankOptions(enabled=False),
        fusion=search_pb2.FusionOptions(dense_weight=dense_weight),
    )
    request = search_pb2.SearchRequest(parent=f"tenants/-/collections/{COLLECTION}", query=text, options=options)
    return base64.b64encode(request.SerializeToString()).decode()


async def prepare(client: GannetClient) -> None:
    """The collection with its passages, made by the first run and kept."""
    services = stack.services(NAME)
    stored = await search_corpus.corpus(f"127.0.0.1:{services['embedder']['port']}")
    if FILLED.exists():
        return
    with contextlib.suppress(NotFound):
        await client.delete_collection(COLLECTION)
    made = await client.create_collection(COLLECTION, rerank=False)
    principal = Principal(tenant=TENANT, credential="bench")
    call.set_current(Call(method="bench", request_id="bench", deadline=None, principal=principal))
    print("storing the passages ...", flush=True)
    await search_corpus.fill(
        f"http://127.0.0.1:{services['edge']['port']}",
        parse_collection(f"tenants/-/collections/{COLLECTION}", "parent"),
        qdrant_collection(made.embedding_model, made.embedding_model_digest),
        stored,
    )
    FILLED.touch()


@contextlib.contextmanager
def haystack() -> Iterator[Callable[[Sequence[str], int], dict[str, Any]]]:
    """The pipeline with its documents, as a function that runs texts through it."""
    encoder = Bm25Encoder("en")
    port = stack.services(NAME)["edge"]["port"]
    with peers.Peer("haystack", "haystack_worker", python=peers.ensure_env("haystack")) as peer:
        with np.load(search_corpus.VECTORS) as stored:
            dim = stored["dense"].shape[1]
        loaded = peer.call("load", folder=str(peer_models.torch_embedder()), port=port, dim=int(dim))
        print(loaded["versions"], flush=True)
        if loaded["documents"] != search_corpus.PASSAGES:
            print("storing haystack's documents ...", flush=True)
            peer.call("fill", vectors=str(search_corpus.VECTORS), texts=str(search_corpus.TEXTS))

        def run(texts: Sequence[str], clients: int) -> dict[str, Any]:
            terms = ((text, encoder.query(text)) for text in texts)
            queries = [(text, one.indices.tolist(), one.values.tolist()) for text, one in terms]
            return peer.call("run", queries=[one for one in queries if one[1]], clients=clients, seconds=SECONDS)

        yield run


def gateway() -> dict[str, str]:
    """The running gateway's address and key, as the load takes them."""
    key = (search_corpus.HOME / "api-key").read_text().strip()
    return {"target": f"127.0.0.1:{stack.services(NAME)['gateway']['port']}", "key": key}


def cpu_s(services: Sequence[str], name_of_stack: str = NAME) -> dict[str, float]:
    """Processor seconds that each process of a stack has taken so far."""
    running = stack.services(name_of_stack)
    taken: dict[str, float] = {}
    for name in services:
        fields = Path(f"/proc/{running[name]['pid']}/stat").read_text().rpartition(")")[2].split()
        taken[name] = (int(fields[11]) + int(fields[12])) / TICKS_PER_S
    return taken


def measured(
    kind: str, clients: int, work: Callable[[], dict[str, Any]], services: Sequence[str] = SERVICES
) -> dict[str, Any]:
    """A row: throughput, percentiles, and what each process of the stack spent a search."""
    before = cpu_s(services)
    reply = work()
    spent = {name: seconds - before[name] for name, seconds in cpu_s(services).items()}
    taken_ms = sorted(1e3 * second for second in reply["taken"])
    quantiles = statistics.quantiles(taken_ms, n=100)
    row = {
        "search": kind,
        "clients": clients,
        "per s": len(taken_ms) / reply["seconds"],
        "p50 ms": statistics.median(taken_ms),
        "p99 ms": quantiles[98],
        "refused": reply.get("refused", 0),
        **{f"{name} CPU ms": 1e3 * seconds / len(taken_ms) for name, seconds in spent.items()},
    }
    print(
        ", ".join(f"{key} {value:.2f}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items())
    )
    return row


def claims(rows: Sequence[dict[str, Any]]) -> list[report.Claim]:
    """What the issue asks."""

    def best(kind: str) -> float:
        return max(row["per s"] for row in rows if row["search"] == kind)

    found = [
        report.Claim(name="cached results a second", value=best("cached"), target=2000),
        report.Claim(name="uncached hybrid searches a second", value=best("cold"), target=150),
    ]
    pairs = {
        row["clients"]: (row, next(r for r in rows if r["search"] == "haystack" and r["clients"] == row["clients"]))
        for row in rows
        if row["search"] == "cold" and any(r["search"] == "haystack" for r in rows)
    }
    for clients, (ours, theirs) in pairs.items():
        at = f"{clients} clients"
        found.append(
            report.Claim(name=f"throughput over haystack, {at}", value=ours["per s"] / theirs["per s"], target=2)
        )
        for column in ("p50 ms", "p99 ms"):
            ratio = ours[column] / theirs[column]
            found.append(report.Claim(name=f"{column} over haystack, {at}", value=ratio, target=1, at_least=False))
    return found


async def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, action="append", help="only so many callers; claims nothing")
    parser.add_argument("--alone", action="store_true", help="without haystack; claims nothing")
    chosen = parser.parse_args()
    requests = Requests(search_corpus.queries())
    rows: list[dict[str, Any]] = []
    async with stack.running(NAME) as client:
        await prepare(client)
        with contextlib.ExitStack() as opened:
            load = opened.enter_context(peers.Peer("search load", "search_load_worker"))
            theirs = None if chosen.alone else opened.enter_context(haystack())

            def ours(encoded: list[str], clients: int) -> dict[str, Any]:
                return load.call("run", requests=encoded, clients=clients, seconds=SECONDS)

            load.call("connect", **gateway(), method=METHOD)
            ours(requests.cached(1), 1)  # warm
            for clients in chosen.clients or CLIENTS:
                for kind in ("cached", "embedded", "cold"):
                    encoded = getattr(requests, kind)(clients)
                    rows.append(measured(kind, clients, lambda e=encoded, c=clients: ours(e, c)))
                if theirs is not None:
                    texts = requests.fresh()
                    rows.append(measured("haystack", clients, lambda t=texts, c=clients: theirs(t, c)))
    print(report.table(rows))
    if not chosen.clients and not chosen.alone:
        report.write("search", rows, claims(rows))


if __name__ == "__main__":
    asyncio.run(main())
