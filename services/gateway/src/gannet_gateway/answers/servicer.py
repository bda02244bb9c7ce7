"""AnswerService on the wire."""

import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from gannet.gateway.v1 import answer_pb2, answer_pb2_grpc
from gannet_gateway.answers import wire
from gannet_gateway.answers.answer import Answerer
from gannet_gateway.answers.cached import AnswerCache
from gannet_gateway.answers.events import Completed, Event
from gannet_gateway.answers.log import AnswerKey
from gannet_gateway.answers.questions import Questions
from gannet_gateway.answers.resume import ResumableAnswers
from gannet_gateway.answers.verification import Verifier
from gannet_gateway.config import GatewayConfig
from gannet_gateway.names import parse_collection
from gannet_gateway.owner import identity
from gannet_service import call


class AnswerServicer(answer_pb2_grpc.AnswerServiceServicer):
    """See answer.proto. `charge_tokens` counts what a tenant's answer took."""

    def __init__(
        self,
        questions: Questions,
        answerer: Answerer,
        *,
        cache: AnswerCache | None,
        verifier: Verifier,
        resumable: ResumableAnswers,
        config: GatewayConfig,
        charge_tokens: Callable[[str, int], Awaitable[None]],
    ) -> None:
        self._questions = questions
        self._answerer = answerer
        self._cache = cache
        self._verifier = verifier
        self._resumable = resumable
        self._config = config
        self._charge_tokens = charge_tokens

    def add_to(self, server: Any) -> None:
        """Serve it."""
        answer_pb2_grpc.add_AnswerServiceServicer_to_server(self, server)

    async def StreamAnswer(  # noqa: N802
        self, request: answer_pb2.AnswerRequest, context: Any
    ) -> AsyncGenerator[answer_pb2.AnswerEvent]:
        del context
        answer_id = uuid.uuid4().hex
        question = await self._questions.read(wire.to_asked(request, self._config), answer_id)
        messages = wire.numbered(self._charged(self._answerer.stream(question)), answer_id)
        if self._cache is not None:
            messages = self._cache.through(question, messages)
        if request.resumable:
            messages = wire.unpacked(self._resumable.begin(_key(answer_id), wire.packed(messages)))
        async with aclosing(messages):
            async for message in messages:
                yield message

    async def ResumeAnswer(  # noqa: N802
        self, request: answer_pb2.ResumeAnswerRequest, context: Any
    ) -> AsyncGenerator[answer_pb2.AnswerEvent]:
        del context
        key = _key(wire.check_answer_id(request.answer_id, "answer_id"))
        async with aclosing(wire.unpacked(self._resumable.resume(key, request.seq))) as messages:
            async for message in messages:
                yield message

    async def VerifyAnswer(  # noqa: N802
        self, request: answer_pb2.VerifyAnswerRequest, context: Any
    ) -> answer_pb2.VerifyAnswerResponse:
        del context
        parent = parse_collection(request.parent, "parent")
        sentences, given = wire.check_claims(request.text), wire.check_given(request.passages)
        options = wire.to_claim_options(request.search, self._config)
        collection, query = await self._questions.search(parent, request.text, options)
        if given:
            return wire.from_verified(await self._verifier.against(sentences, given), query.mode, generation=0)
        verified = await self._verifier.by_search(sentences, collection, query)
        return wire.from_verified(verified, query.mode, collection.generation)

    async def Answer(self, request: answer_pb2.AnswerRequest, context: Any) -> answer_pb2.AnswerResponse:  # noqa: N802
        response = answer_pb2.AnswerResponse()
        async with aclosing(self.StreamAnswer(request, context)) as events:
            async for event in events:
                response.answer_id = event.answer_id
                match event.WhichOneof("event"):
                    case "started":
                        response.started.CopyFrom(event.started)
                    case "retrieved":
                        response.passages.extend(event.retrieved.passages)
                    case "warning":
                        response.warnings.append(event.warning)
                    case "completed":
                        response.completed.CopyFrom(event.completed)
                    case _:
                        pass
        return response

    async def _charged(self, events: AsyncGenerator[Event]) -> AsyncGenerator[Event]:
        tenant = call.principal().tenant
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Completed):  # before it is told: nobody need ask for more after that
                    tokens = event.tokens_read + event.prompt_tokens + event.completion_tokens
                    await self._charge_tokens(tenant, tokens)
                yield event


def _key(answer_id: str) -> AnswerKey:
    return AnswerKey(tenant=call.principal().tenant, owner=identity(), answer_id=answer_id)
