"""`gannet.reranker.v1.Reranker` on the wire."""

from __future__ import annotations  # grpc's classes are generic in their stubs only

import time
from typing import Any

import grpc

from gannet.reranker.v1 import reranker_pb2 as pb
from gannet.reranker.v1 import reranker_pb2_grpc
from gannet_reranker import wire
from gannet_reranker.ranking import PassageRanker

SERVICE = pb.DESCRIPTOR.services_by_name["Reranker"].full_name


class RerankerServicer(reranker_pb2_grpc.RerankerServicer):
    """Checks a request, has its passages ranked, and writes the reply."""

    def __init__(self, ranker: PassageRanker, limits: wire.Limits, info: pb.InfoResponse) -> None:
        self._ranker = ranker
        self._limits = limits
        self._info = info

    async def Rerank(  # noqa: N802 - the method's name is the contract's
        self, request: pb.RerankRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.RerankResponse:
        """See the proto. A caller who leaves, or whose deadline passes, takes along the pairs that have not started."""
        del context
        started = time.monotonic()
        wire.check(request, self._limits)
        ranking = await self._ranker.rank(request.query, list(request.passages))
        return wire.to_response(ranking, request, time.monotonic() - started)

    async def Info(  # noqa: N802 - the method's name is the contract's
        self, request: pb.InfoRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.InfoResponse:
        """See the proto."""
        del request, context
        return self._info
