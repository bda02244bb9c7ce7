"""`gannet.generator.v1.Generator` on the wire."""

from __future__ import annotations  # grpc's classes are generic in their stubs only

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc

from gannet.generator.v1 import generator_pb2 as pb
from gannet.generator.v1 import generator_pb2_grpc
from gannet_generator import wire
from gannet_generator.answering import ExtractiveGenerator
from gannet_generator.extract import Source

SERVICE = pb.DESCRIPTOR.services_by_name["Generator"].full_name


class GeneratorServicer(generator_pb2_grpc.GeneratorServicer):
    """Checks a request, has it answered, and writes each event as it comes."""

    def __init__(self, generator: ExtractiveGenerator, limits: wire.Limits, info: pb.InfoResponse) -> None:
        self._generator = generator
        self._limits = limits
        self._info = info

    async def Generate(  # noqa: N802 - the method's name is the contract's
        self, request: pb.GenerateRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.GenerateResponse]:
        """See the proto. A caller who leaves, or whose deadline passes, takes along the sentences that have not been scored."""
        del context
        wire.check(request, self._limits)
        sources = [Source(text=source.text, title=source.title) for source in request.sources]
        sentences_max = request.sentences_max or self._info.sentences_max
        async with contextlib.aclosing(self._generator.answer(request.question, sources, sentences_max)) as events:
            async for event in events:
                yield wire.to_response(event)

    async def Info(  # noqa: N802 - the method's name is the contract's
        self, request: pb.InfoRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.InfoResponse:
        """See the proto."""
        del request, context
        return self._info
