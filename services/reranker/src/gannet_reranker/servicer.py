"""`gannet.reranker.v1.Reranker` on the wire."""

from __future__ import annotations  # grpc's classes are generic in their stubs only

import time
from collections.abc import Mapping
from typing import Any

import grpc

from gannet.reranker.v1 import reranker_pb2 as pb
from gannet.reranker.v1 import reranker_pb2_grpc
from gannet_inference.placement import Placement
from gannet_reranker import wire
from gannet_reranker.ranking import PassageRanker
from gannet_service import call
from gannet_service.errors import NotFound

SERVICE = pb.DESCRIPTOR.services_by_name["Reranker"].full_name
RERANK = f"/{SERVICE}/Rerank"


class RerankerServicer(reranker_pb2_grpc.RerankerServicer):
    """Checks a request, has its passages ranked, and writes the reply."""

    def __init__(self, rankers: Mapping[str, PassageRanker], limits: wire.Limits, placement: Placement) -> None:
        """Serves `rankers`, by model name; the first one answers requests that name none."""
        self._rankers = rankers
        self._limits = limits
        self._placement = placement

    def check_room(self, request: pb.RerankRequest, deadline_s: float) -> None:
        """Refuses a Rerank that the model has no time for; any other mistake in it is left to Rerank."""
        ranker = self._rankers.get(request.model) if request.model else next(iter(self._rankers.values()))
        if ranker is not None:
            ranker.check_room(deadline_s)

    async def Rerank(  # noqa: N802 - the method's name is the contract's
        self, request: pb.RerankRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.RerankResponse:
        """See the proto. A caller who leaves, or whose deadline passes, takes along the windows that have not started."""
        del context
        started = time.monotonic()
        ranker = self._find(request.model)
        ranking = await ranker.rank(wire.to_candidates(request, self._limits, deadline_s=call.deadline_s()))
        return wire.to_response(ranking, request, time.monotonic() - started)

    async def Info(  # noqa: N802 - the method's name is the contract's
        self, request: pb.InfoRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.InfoResponse:
        """See the proto."""
        del context
        ranker = self._find(request.model)
        return wire.to_info(ranker, self._limits, self._placement, models=[*self._rankers])

    def _find(self, model: str) -> PassageRanker:
        ranker = self._rankers.get(model) if model else next(iter(self._rankers.values()))
        if ranker is None:
            raise NotFound(f"model: {model[:64]!r} is not served; there are {', '.join(self._rankers)}", field="model")
        return ranker
