"""`gannet.embedder.v1.Embedder` on the wire."""

from __future__ import annotations  # grpc's classes are generic in their stubs only

import time
from typing import Any

import grpc

from gannet.embedder.v1 import embedder_pb2 as pb
from gannet.embedder.v1 import embedder_pb2_grpc
from gannet_embedder import wire
from gannet_embedder.embedding import TextEmbedder

SERVICE = pb.DESCRIPTOR.services_by_name["Embedder"].full_name


class EmbedderServicer(embedder_pb2_grpc.EmbedderServicer):
    """Checks a request, has it embedded, and writes the reply."""

    def __init__(self, embedder: TextEmbedder, limits: wire.Limits, info: pb.InfoResponse) -> None:
        self._embedder = embedder
        self._limits = limits
        self._info = info

    async def Embed(  # noqa: N802 - the method's name is the contract's
        self, request: pb.EmbedRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.EmbedResponse:
        """See the proto. A caller who leaves, or whose deadline passes, takes along the texts that have not started."""
        del context
        started = time.monotonic()
        batch, refused = wire.to_batch(request, self._limits)
        embedded = await self._embedder.embed(batch)
        return wire.to_response(embedded, refused, time.monotonic() - started)

    async def Info(  # noqa: N802 - the method's name is the contract's
        self, request: pb.InfoRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.InfoResponse:
        """See the proto."""
        del request, context
        return self._info
