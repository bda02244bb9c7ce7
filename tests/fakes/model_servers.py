"""An embedder and a reranker that a test can stop from answering, on real sockets; their vectors and scores are arithmetic, not models."""

import contextlib
import re
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from gannet.common.v1.vectors_pb2 import DenseVector, SparseVector
from gannet.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from gannet.reranker.v1 import reranker_pb2, reranker_pb2_grpc
from gannet_lexical.sparse import LANGUAGES, Bm25Encoder

DIM = 16
THREADS = 16


def dense(text: str) -> NDArray[np.float32]:
    """f32[DIM] of length 1: words counted into buckets, so that texts that share words are near each other."""
    counts = np.full(DIM, 0.01, np.float32)
    for word in re.findall(r"\w+", text.lower()):
        counts[zlib.crc32(word.encode()) % DIM] += 1
    return counts / np.linalg.norm(counts)


class Faulty:
    """What both have: they serve, refuse, or hang until they are released."""

    def __init__(self) -> None:
        self._refuses = False
        self._open = threading.Event()
        self._open.set()

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """Meanwhile every call is answered UNAVAILABLE."""
        self._refuses = True
        try:
            yield
        finally:
            self._refuses = False

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        """Meanwhile no call is answered."""
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()

    def _pass(self, context: grpc.ServicerContext) -> None:
        if self._refuses:
            context.abort(grpc.StatusCode.UNAVAILABLE, "refusing")
        self._open.wait(60)


class FaultyEmbedder(Faulty, embedder_pb2_grpc.EmbedderServicer):
    """Embeds by `dense`, and by the real BM25 encoder."""

    def Info(self, request: Any, context: Any) -> embedder_pb2.InfoResponse:  # noqa: ARG002, N802
        """A model of DIM components."""
        self._pass(context)
        return embedder_pb2.InfoResponse(
            model="buckets", model_digest="b" * 64, dim=DIM, batch_texts_max=64, languages=LANGUAGES
        )

    def Embed(self, request: embedder_pb2.EmbedRequest, context: Any) -> embedder_pb2.EmbedResponse:  # noqa: N802
        """Both vectors of every text."""
        self._pass(context)
        encoder = Bm25Encoder(request.sparse.language)
        results: list[embedder_pb2.EmbedResult] = []
        for text in request.texts:
            terms = encoder.passage(text)
            values = terms.values.astype("<f4").tobytes()
            sparse = SparseVector(indices=terms.indices.tolist(), values=values)
            vector = DenseVector(dim=DIM, data=dense(text).astype("<f4").tobytes())
            results.append(embedder_pb2.EmbedResult(dense=vector, sparse=sparse))
        return embedder_pb2.EmbedResponse(results=results)


class FaultyReranker(Faulty, reranker_pb2_grpc.RerankerServicer):
    """Scores by the number of words that a passage shares with the query."""

    def Rerank(self, request: reranker_pb2.RerankRequest, context: Any) -> reranker_pb2.RerankResponse:  # noqa: N802
        """One score a passage."""
        self._pass(context)
        query = set(request.query.lower().split())
        scores = [float(len(query & set(passage.lower().split()))) for passage in request.passages]
        results = [reranker_pb2.RerankResult(index=index, score=score) for index, score in enumerate(scores)]
        return reranker_pb2.RerankResponse(results=results)


@contextlib.contextmanager
def serving(servicer: Faulty) -> Iterator[str]:
    """The address at which `servicer` answers."""
    server = grpc.server(ThreadPoolExecutor(THREADS), options=[("grpc.so_reuseport", 0)])
    if isinstance(servicer, FaultyEmbedder):
        embedder_pb2_grpc.add_EmbedderServicer_to_server(servicer, server)
    elif isinstance(servicer, FaultyReranker):
        reranker_pb2_grpc.add_RerankerServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(grace=None).wait()
