"""The reranker as the gateway sees it: plain values in and out, protobuf only here."""

import time
from collections.abc import Sequence

import grpc
import numpy as np
from numpy.typing import NDArray

from gannet.reranker.v1 import reranker_pb2, reranker_pb2_grpc
from gannet_gateway.clients import MODEL_DIGEST_TTL_S
from gannet_service import clients
from gannet_service.clients import open_channel
from gannet_service.errors import DependencyUnavailable

RERANKER = "gannet.reranker.v1.Reranker"


class Reranker:
    """Calls the reranker."""

    def __init__(self, target: str, *, timeout_s: float) -> None:
        self.channel: grpc.aio.Channel = open_channel(target, retried_services=(RERANKER,))
        self._stub = reranker_pb2_grpc.RerankerStub(self.channel)
        self._timeout_s = timeout_s
        self._digest: tuple[str, float] | None = None

    async def model_digest(self) -> str:
        """Digest of the model in service, as it was at most MODEL_DIGEST_TTL_S ago; raises GannetError if there is no telling."""
        now = time.monotonic()
        if self._digest is None or now >= self._digest[1] + MODEL_DIGEST_TTL_S:
            info = await clients.unary(self._stub.Info, reranker_pb2.InfoRequest(), name="reranker.Info", timeout_s=1.0)
            self._digest = info.model_digest, now
        return self._digest[0]

    async def scores(self, query: str, passages: Sequence[str], *, timeout_s: float) -> NDArray[np.float32]:
        """Raw logits f32[n], one per passage, in the order given."""
        request = reranker_pb2.RerankRequest(query=query, passages=passages)
        timeout_s = min(timeout_s, self._timeout_s)
        response = await clients.unary(self._stub.Rerank, request, name="reranker.Rerank", timeout_s=timeout_s)
        if sorted(result.index for result in response.results) != list(range(len(passages))):
            raise DependencyUnavailable(f"reranker: {len(response.results)} scores for {len(passages)} passages")
        scores = np.empty(len(passages), np.float32)
        for result in response.results:
            scores[result.index] = result.score
        if not np.isfinite(scores).all():
            raise DependencyUnavailable("reranker: a score that is not a number")
        return scores
