"""`gannet.generator.v1.Generator` on the wire."""

from __future__ import annotations  # grpc's classes are generic in their stubs only

import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc

from gannet.generator.v1 import generator_pb2 as pb
from gannet.generator.v1 import generator_pb2_grpc
from gannet_generator import wire
from gannet_generator.generation import Citation, Delta, Finished, Generator
from gannet_generator.limits import Limits, check_count, check_generate, check_verify
from gannet_generator.verification import Verifier
from gannet_service.errors import NotFound

SERVICE = pb.DESCRIPTOR.services_by_name["Generator"].full_name
SPANS_DEFAULT = 3


class GeneratorServicer(generator_pb2_grpc.GeneratorServicer):
    """Checks a request, has the generator that it names answer it, and writes each event as it comes."""

    def __init__(
        self, generators: Mapping[str, Generator], verifier: Verifier, limits: Limits, *, sentences_max: int
    ) -> None:
        """Serves.

        Args:
            generators: by the names that requests use, at least one; the first answers requests that name none.
            verifier: answers Verify.
            limits: what a request may hold.
            sentences_max: most sentences of an answer whose request does not say.
        """
        self._generators = generators
        self._first = next(iter(generators))
        self._verifier = verifier
        self._limits = limits
        self._sentences_max = sentences_max

    async def Generate(  # noqa: N802 - the method's name is the contract's
        self, request: pb.GenerateRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.GenerateResponse]:
        """See the proto. A caller who leaves, or whose deadline passes, takes along what has not been done."""
        del context
        started = time.perf_counter()
        name, generator = self._named(request.generator)
        asked = wire.to_request(request, sentences_max=self._sentences_max)
        check_generate(asked, self._limits, generator.description)
        first_token_us = 0
        async with contextlib.aclosing(generator.generate(asked)) as events:
            async for event in events:
                match event:
                    case Delta():
                        first_token_us = first_token_us or _us_since(started)
                        yield wire.from_delta(event)
                    case Citation():
                        yield wire.from_citation(event)
                    case Finished():
                        total_us = _us_since(started)
                        yield wire.from_finished(
                            event, generator=name, first_token_us=first_token_us, total_us=total_us
                        )

    async def CountTokens(  # noqa: N802 - the method's name is the contract's
        self, request: pb.CountTokensRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.CountTokensResponse:
        """See the proto."""
        del context
        _, generator = self._named(request.generator)
        messages = wire.to_messages(request.messages)
        check_count(messages, request.texts, self._limits)
        return wire.from_counts(await generator.count_tokens(messages, request.texts))

    async def Verify(  # noqa: N802 - the method's name is the contract's
        self, request: pb.VerifyRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.VerifyResponse:
        """See the proto."""
        del context
        sources = wire.to_sources(request.sources)
        check_verify(request.claims, sources, request.spans_max, self._limits)
        spans_max = request.spans_max or SPANS_DEFAULT
        verification = await self._verifier.verify(request.claims, sources, spans_max=spans_max)
        return wire.from_verification(verification)

    async def Info(  # noqa: N802 - the method's name is the contract's
        self, request: pb.InfoRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.InfoResponse:
        """See the proto."""
        del request, context
        first = self._generators[self._first].description
        limits = self._limits
        return pb.InfoResponse(
            generator=first.kind,
            model=first.model,
            model_digest=first.model_digest,
            precision=first.precision,
            threshold=first.threshold,
            sources_max=limits.sources_max,
            text_bytes_max=limits.text_bytes_max,
            sentences_max=self._sentences_max,
            generators=[wire.from_description(name, one.description) for name, one in self._generators.items()],
            prompt_bytes_max=limits.prompt_bytes_max,
            claims_max=limits.claims_max,
            verify_threshold=self._verifier.threshold,
            verify_model=self._verifier.built.name,
            verify_model_digest=self._verifier.built.digest,
        )

    def _named(self, name: str) -> tuple[str, Generator]:
        name = name or self._first
        if name not in self._generators:
            known = ", ".join(self._generators)
            raise NotFound(f"generator: {name[:60]!r} is not one of {known}", field="generator")
        return name, self._generators[name]


def _us_since(started: float) -> int:
    return round((time.perf_counter() - started) * 1e6)
