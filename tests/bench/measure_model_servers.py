"""Latency of the three model servers, one call at a time, over gRPC, from this process; start them first.

    python tests/bench/measure_model_servers.py --embedder HOST:PORT --reranker HOST:PORT --generator HOST:PORT

Prints one line per measurement: the median and the 95th percentile of 200 calls, milliseconds.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

import grpc

from gannet.embedder.v1 import embedder_pb2
from gannet.embedder.v1.embedder_pb2_grpc import EmbedderStub
from gannet.generator.v1 import generator_pb2
from gannet.generator.v1.generator_pb2_grpc import GeneratorStub
from gannet.reranker.v1 import reranker_pb2
from gannet.reranker.v1.reranker_pb2_grpc import RerankerStub

CALLS = 200
QUERY = "how deep does the northern gannet dive when it hunts for fish at sea"
SENTENCE = "The northern gannet folds its wings before it enters the water and swims after its prey, number {}."
PASSAGE = " ".join(SENTENCE.format(number) for number in range(5))


async def measure(name: str, call: Callable[[], Awaitable[str]]) -> None:
    """Call once to warm up, then `CALLS` times."""
    note = await call()
    times_ms: list[float] = []
    for _ in range(CALLS):
        started = time.perf_counter()
        await call()
        times_ms.append((time.perf_counter() - started) * 1e3)
    p95_ms = statistics.quantiles(times_ms, n=20)[-1]
    print(f"{name} ({note}): p50 {statistics.median(times_ms):.2f} ms, p95 {p95_ms:.2f} ms")


async def main() -> None:
    """Measure what the defaults of the three servers give."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for service in ("embedder", "reranker", "generator"):
        parser.add_argument(f"--{service}", required=True)
    addresses = parser.parse_args()
    async with (
        grpc.aio.insecure_channel(addresses.embedder) as to_embedder,
        grpc.aio.insecure_channel(addresses.reranker) as to_reranker,
        grpc.aio.insecure_channel(addresses.generator) as to_generator,
    ):
        embedder, reranker = EmbedderStub(to_embedder), RerankerStub(to_reranker)
        generator = GeneratorStub(to_generator)

        async def embed() -> str:
            reply = await embedder.Embed(
                embedder_pb2.EmbedRequest(
                    texts=[QUERY], purpose=embedder_pb2.PURPOSE_QUERY, want_dense=True, want_sparse=True
                )
            )
            return f"{reply.results[0].token_count} tokens, dense and sparse"

        async def rerank() -> str:
            passages = [f"{number}: {PASSAGE}" for number in range(10)]
            reply = await reranker.Rerank(reranker_pb2.RerankRequest(query=QUERY, passages=passages))
            return f"{len(reply.results)} passages of {len(PASSAGE)} characters"

        async def generate() -> str:
            texts = [" ".join(SENTENCE.format(5 * source + number) for number in range(5)) for source in range(8)]
            request = generator_pb2.GenerateRequest(
                question=QUERY, sources=[generator_pb2.Source(text=text) for text in texts]
            )
            replies = [reply async for reply in generator.Generate(request)]
            return f"{replies[-1].finished.sentences_scored} sentences, {replies[-1].finished.tokens_read} tokens"

        await measure("embed a query", embed)
        await measure("rerank", rerank)
        await measure("answer", generate)


if __name__ == "__main__":
    asyncio.run(main())
