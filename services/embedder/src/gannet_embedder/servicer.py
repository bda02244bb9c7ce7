"""`gannet.embedder.v1.Embedder` on the wire."""

from __future__ import annotations  # grpc's classes are generic in their stubs only

import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

import grpc

from gannet.embedder.v1 import embedder_pb2 as pb
from gannet.embedder.v1 import embedder_pb2_grpc
from gannet_embedder import wire
from gannet_embedder.embedding import TextEmbedder
from gannet_inference.placement import Placement
from gannet_service import call
from gannet_service.errors import GannetError, NotFound, to_status
from gannet_service.streams import in_order

SERVICE = pb.DESCRIPTOR.services_by_name["Embedder"].full_name
EMBED = f"/{SERVICE}/Embed"


class EmbedderServicer(embedder_pb2_grpc.EmbedderServicer):
    """Checks a request, has it embedded, and writes the reply."""

    def __init__(self, embedders: Mapping[str, TextEmbedder], limits: wire.Limits, placement: Placement) -> None:
        """Serves `embedders`, by model name; the first one answers requests that name none."""
        self._embedders = embedders
        self._limits = limits
        self._placement = placement

    def check_room(self, request: pb.EmbedRequest, deadline_s: float) -> None:
        """Refuses an Embed that the model has no time for; any other mistake in it is left to Embed."""
        embedder = self._embedders.get(request.model) if request.model else next(iter(self._embedders.values()))
        if embedder is not None and request.texts and (request.want_dense or request.want_tokens):
            embedder.check_room(wire.lane(request), deadline_s)

    async def Embed(  # noqa: N802 - the method's name is the contract's
        self, request: pb.EmbedRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.EmbedResponse:
        """See the proto. A caller who leaves, or whose deadline passes, takes along the texts that have not started."""
        del context
        return await self._embed(request)

    def EmbedStream(  # noqa: N802 - the method's name is the contract's
        self, request_iterator: AsyncIterator[pb.EmbedStreamRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncGenerator[pb.EmbedStreamResponse]:
        """See the proto. A caller who leaves takes along what has not started."""
        del context
        return in_order(request_iterator, self._embed_one, in_flight_max=self._limits.stream_requests_max)

    async def Tokenize(  # noqa: N802 - the method's name is the contract's
        self, request: pb.TokenizeRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.TokenizeResponse:
        """See the proto."""
        del context
        embedder = self._find(request.model)
        texts, purpose, refused = wire.to_tokenize(request, self._limits)
        return wire.to_tokens(await embedder.tokenize(texts, purpose), refused)

    async def Info(  # noqa: N802 - the method's name is the contract's
        self, request: pb.InfoRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.InfoResponse:
        """See the proto."""
        del context
        embedder = self._find(request.model)
        return wire.to_info(embedder, self._limits, self._placement, models=[*self._embedders])

    async def _embed(self, request: pb.EmbedRequest) -> pb.EmbedResponse:
        started = time.monotonic()
        embedder = self._find(request.model)
        batch, refused = wire.to_batch(request, self._limits, dim=embedder.built.dim, deadline_s=call.deadline_s())
        embedded = await embedder.embed(batch)
        return wire.to_response(embedded, refused, time.monotonic() - started)

    async def _embed_one(self, message: pb.EmbedStreamRequest) -> pb.EmbedStreamResponse:
        try:
            return pb.EmbedStreamResponse(response=await self._embed(message.request))
        except GannetError as error:
            return pb.EmbedStreamResponse(error=to_status(error))

    def _find(self, model: str) -> TextEmbedder:
        embedder = self._embedders.get(model) if model else next(iter(self._embedders.values()))
        if embedder is None:
            raise NotFound(
                f"model: {model[:64]!r} is not served; there are {', '.join(self._embedders)}", field="model"
            )
        return embedder
