"""The services of `tei.v1` that a reranker has: Info, Predict (of pairs), Rerank and Tokenize."""

from __future__ import annotations  # grpc's classes are generic in their stubs only

import time
from collections.abc import AsyncGenerator, AsyncIterator
from importlib import metadata
from typing import Any, NoReturn

import grpc

from gannet.tei.v1 import tei_pb2 as pb
from gannet.tei.v1 import tei_pb2_grpc
from gannet_reranker.ranking import PassageRanker
from gannet_reranker.tei import wire
from gannet_reranker.wire import Limits
from gannet_service import call
from gannet_service.errors import InvalidInput, Unimplemented
from gannet_service.streams import in_order

SERVICES = tuple(pb.DESCRIPTOR.services_by_name[name].full_name for name in ("Info", "Predict", "Rerank", "Tokenize"))
RERANK = f"/{pb.DESCRIPTOR.services_by_name['Rerank'].full_name}/Rerank"


def register(server: grpc.aio.Server, *, ranker: PassageRanker, limits: Limits, concurrent_rpcs_max: int) -> None:
    """Adds the services; calls to the rest of `tei.v1` are UNIMPLEMENTED by themselves."""
    version = metadata.version("gannet-reranker")
    info = wire.to_info(ranker.built, limits, version=version, concurrent_rpcs_max=concurrent_rpcs_max)
    tei_pb2_grpc.add_InfoServicer_to_server(InfoServicer(info), server)
    tei_pb2_grpc.add_PredictServicer_to_server(PredictServicer(ranker, limits), server)
    tei_pb2_grpc.add_RerankServicer_to_server(RerankServicer(ranker, limits), server)
    tei_pb2_grpc.add_TokenizeServicer_to_server(TokenizeServicer(ranker, limits), server)


def check_room(ranker: PassageRanker, request: pb.RerankRequest, deadline_s: float) -> None:
    """Refuses a Rerank that the model has no time for."""
    del request
    ranker.check_room(deadline_s)


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


class PredictServicer(tei_pb2_grpc.PredictServicer):
    """Scores one pair a message."""

    def __init__(self, ranker: PassageRanker, limits: Limits) -> None:
        self._ranker = ranker
        self._limits = limits

    async def Predict(  # noqa: N802 - the method's name is the contract's
        self, request: pb.PredictRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> NoReturn:
        """See the proto."""
        del request, context
        raise _no_classifier()

    def PredictStream(  # noqa: N802 - the method's name is the contract's
        self, request_iterator: AsyncIterator[pb.PredictRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> NoReturn:
        """See the proto."""
        del request_iterator, context
        raise _no_classifier()

    async def PredictPair(  # noqa: N802 - the method's name is the contract's
        self, request: pb.PredictPairRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.PredictResponse:
        """See the proto."""
        del context
        return await self._predict(request)

    def PredictPairStream(  # noqa: N802 - the method's name is the contract's
        self, request_iterator: AsyncIterator[pb.PredictPairRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncGenerator[pb.PredictResponse]:
        """See the proto."""
        del context
        return in_order(request_iterator, self._predict, in_flight_max=self._limits.stream_requests_max)

    async def _predict(self, request: pb.PredictPairRequest) -> pb.PredictResponse:
        started = time.monotonic()
        ranking = await self._ranker.rank(wire.to_pair(request, self._limits, deadline_s=call.deadline_s()))
        return wire.from_pair(ranking, request, time.monotonic() - started)


class RerankServicer(tei_pb2_grpc.RerankServicer):
    """Ranks texts."""

    def __init__(self, ranker: PassageRanker, limits: Limits) -> None:
        self._ranker = ranker
        self._limits = limits

    async def Rerank(  # noqa: N802 - the method's name is the contract's
        self, request: pb.RerankRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.RerankResponse:
        """See the proto."""
        del context
        return await self._rerank(request)

    async def RerankStream(  # noqa: N802 - the method's name is the contract's
        self, request_iterator: AsyncIterator[pb.RerankStreamRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.RerankResponse:
        """See the proto."""
        del context
        messages: list[pb.RerankStreamRequest] = []
        async for message in request_iterator:
            if len(messages) == self._limits.batch_passages_max:
                raise InvalidInput(f"more than {self._limits.batch_passages_max} messages", field="text")
            messages.append(message)
        return await self._rerank(wire.gathered(messages))

    async def _rerank(self, request: pb.RerankRequest) -> pb.RerankResponse:
        started = time.monotonic()
        ranking = await self._ranker.rank(wire.to_candidates(request, self._limits, deadline_s=call.deadline_s()))
        return wire.from_ranking(ranking, request, time.monotonic() - started)


class TokenizeServicer(tei_pb2_grpc.TokenizeServicer):
    """Tokenises one text a message, and back."""

    def __init__(self, ranker: PassageRanker, limits: Limits) -> None:
        self._ranker = ranker
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
        text, purpose = wire.to_text(request, self._limits)
        pieces = await self._ranker.tokenize(text, purpose, special=request.add_special_tokens)
        return wire.from_pieces(pieces, text)

    async def _decode(self, request: pb.DecodeRequest) -> pb.DecodeResponse:
        text = await self._ranker.decode(wire.to_ids(request), skip_special=request.skip_special_tokens)
        return pb.DecodeResponse(text=text)


def _no_classifier() -> Unimplemented:
    return Unimplemented("the model scores pairs of texts: use PredictPair or Rerank")
