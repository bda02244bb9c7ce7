"""The services of `tei.v1` that an embedder has: Info, Embed and Tokenize."""

from __future__ import annotations  # grpc's classes are generic in their stubs only

import time
from collections.abc import AsyncGenerator, AsyncIterator
from importlib import metadata
from typing import Any

import grpc

from gannet.tei.v1 import tei_pb2 as pb
from gannet.tei.v1 import tei_pb2_grpc
from gannet_embedder.embedding import TextBatch, TextEmbedder
from gannet_embedder.tei import wire
from gannet_embedder.wire import Limits
from gannet_inference.lanes import Lane
from gannet_service import call
from gannet_service.streams import in_order

SERVICES = tuple(pb.DESCRIPTOR.services_by_name[name].full_name for name in ("Info", "Embed", "Tokenize"))
EMBED = f"/{pb.DESCRIPTOR.services_by_name['Embed'].full_name}/Embed"


def register(server: grpc.aio.Server, *, embedder: TextEmbedder, limits: Limits, concurrent_rpcs_max: int) -> None:
    """Adds the services; calls to the rest of `tei.v1` are UNIMPLEMENTED by themselves."""
    version = metadata.version("gannet-embedder")
    info = wire.to_info(embedder.built, limits, version=version, concurrent_rpcs_max=concurrent_rpcs_max)
    tei_pb2_grpc.add_InfoServicer_to_server(InfoServicer(info), server)
    tei_pb2_grpc.add_EmbedServicer_to_server(EmbedServicer(embedder, limits), server)
    tei_pb2_grpc.add_TokenizeServicer_to_server(TokenizeServicer(embedder, limits), server)


def check_room(embedder: TextEmbedder, request: pb.EmbedRequest, deadline_s: float) -> None:
    """Refuses an Embed that the model has no time for."""
    del request
    embedder.check_room(Lane.INTERACTIVE, deadline_s)


class InfoServicer(tei_pb2_grpc.InfoServicer):
    """Says what is served."""

    def __init__(self, info: pb.InfoResponse) -> None:
        self._info = info

    async def Info(  # noqa: N802 - the method's name is the contract's
        self, request: pb.InfoRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.InfoResponse:
        """See the proto."""
        del request, context
        return self._info


class EmbedServicer(tei_pb2_grpc.EmbedServicer):
    """Embeds one text a message."""

    def __init__(self, embedder: TextEmbedder, limits: Limits) -> None:
        self._embedder = embedder
        self._limits = limits

    async def Embed(  # noqa: N802 - the method's name is the contract's
        self, request: pb.EmbedRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.EmbedResponse:
        """See the proto."""
        del context
        return await self._dense(request)

    def EmbedStream(  # noqa: N802 - the method's name is the contract's
        self, request_iterator: AsyncIterator[pb.EmbedRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncGenerator[pb.EmbedResponse]:
        """See the proto."""
        del context
        return in_order(request_iterator, self._dense, in_flight_max=self._limits.stream_requests_max)

    async def EmbedSparse(  # noqa: N802 - the method's name is the contract's
        self, request: pb.EmbedSparseRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.EmbedSparseResponse:
        """See the proto."""
        del context
        return await self._sparse(request)

    def EmbedSparseStream(  # noqa: N802 - the method's name is the contract's
        self, request_iterator: AsyncIterator[pb.EmbedSparseRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncGenerator[pb.EmbedSparseResponse]:
        """See the proto."""
        del context
        return in_order(request_iterator, self._sparse, in_flight_max=self._limits.stream_requests_max)

    async def EmbedAll(  # noqa: N802 - the method's name is the contract's
        self, request: pb.EmbedAllRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.EmbedAllResponse:
        """See the proto."""
        del context
        return await self._all(request)

    def EmbedAllStream(  # noqa: N802 - the method's name is the contract's
        self, request_iterator: AsyncIterator[pb.EmbedAllRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncGenerator[pb.EmbedAllResponse]:
        """See the proto."""
        del context
        return in_order(request_iterator, self._all, in_flight_max=self._limits.stream_requests_max)

    async def _dense(self, request: pb.EmbedRequest) -> pb.EmbedResponse:
        dim = self._embedder.built.dim
        batch = wire.to_dense(request, self._limits, dim=dim, deadline_s=call.deadline_s())
        return wire.from_dense(await self._answer(batch))

    async def _sparse(self, request: pb.EmbedSparseRequest) -> pb.EmbedSparseResponse:
        batch = wire.to_sparse(request, self._limits, deadline_s=call.deadline_s())
        return wire.from_sparse(await self._answer(batch))

    async def _all(self, request: pb.EmbedAllRequest) -> pb.EmbedAllResponse:
        batch = wire.to_all(request, self._limits, deadline_s=call.deadline_s())
        return wire.from_all(await self._answer(batch))

    async def _answer(self, batch: TextBatch) -> wire.Answered:
        started = time.monotonic()
        embedded = await self._embedder.embed(batch)
        return wire.answered(embedded, batch, time.monotonic() - started)


class TokenizeServicer(tei_pb2_grpc.TokenizeServicer):
    """Tokenises one text a message, and back."""

    def __init__(self, embedder: TextEmbedder, limits: Limits) -> None:
        self._embedder = embedder
        self._limits = limits

    async def Tokenize(  # noqa: N802 - the method's name is the contract's
        self, request: pb.EncodeRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.EncodeResponse:
        """See the proto."""
        del context
        return await self._encode(request)

    def TokenizeStream(  # noqa: N802 - the method's name is the contract's
        self, request_iterator: AsyncIterator[pb.EncodeRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncGenerator[pb.EncodeResponse]:
        """See the proto."""
        del context
        return in_order(request_iterator, self._encode, in_flight_max=self._limits.stream_requests_max)

    async def Decode(  # noqa: N802 - the method's name is the contract's
        self, request: pb.DecodeRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.DecodeResponse:
        """See the proto."""
        del context
        return await self._decode(request)

    def DecodeStream(  # noqa: N802 - the method's name is the contract's
        self, request_iterator: AsyncIterator[pb.DecodeRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncGenerator[pb.DecodeResponse]:
        """See the proto."""
        del context
        return in_order(request_iterator, self._decode, in_flight_max=self._limits.stream_requests_max)

    async def _encode(self, request: pb.EncodeRequest) -> pb.EncodeResponse:
        text = wire.checked(request.inputs, self._limits)
        purpose = wire.purpose_of(request)
        (pieces,) = await self._embedder.tokenize([text], purpose, special=request.add_special_tokens)
        return wire.from_pieces(pieces, text)

    async def _decode(self, request: pb.DecodeRequest) -> pb.DecodeResponse:
        text = await self._embedder.decode(wire.to_ids(request), skip_special=request.skip_special_tokens)
        return pb.DecodeResponse(text=text)
