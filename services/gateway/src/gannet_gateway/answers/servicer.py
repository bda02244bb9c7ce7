"""AnswerService on the wire."""

import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from gannet.gateway.v1 import answer_pb2, answer_pb2_grpc
from gannet_gateway.answers import wire
from gannet_gateway.answers.answer import Answerer
from gannet_gateway.answers.log import AnswerKey
from gannet_gateway.answers.resume import ResumableAnswers
from gannet_gateway.cache.reader import CollectionReader
from gannet_gateway.config import GatewayConfig
from gannet_gateway.names import parse_collection
from gannet_gateway.owner import owner
from gannet_gateway.search import wire as search_wire
from gannet_gateway.search.query import Query
from gannet_service import call

TOP_K_DEFAULT = 5


class AnswerServicer(answer_pb2_grpc.AnswerServiceServicer):
    """See answer.proto."""

    def __init__(
        self, reader: CollectionReader, answerer: Answerer, resumable: ResumableAnswers, config: GatewayConfig
    ) -> None:
        self._reader = reader
        self._answerer = answerer
        self._resumable = resumable
        self._config = config

    def add_to(self, server: Any) -> None:
        """Serve it."""
        answer_pb2_grpc.add_AnswerServiceServicer_to_server(self, server)

    async def StreamAnswer(  # noqa: N802
        self, request: answer_pb2.AnswerRequest, context: Any
    ) -> AsyncGenerator[answer_pb2.AnswerEvent]:
        del context
        text = search_wire.check_query(request.query, self._config.query_bytes_max)
        options = search_wire.to_options(
            request.search,
            prefix="search",
            top_k_max=wire.TOP_K_MAX,
            filter_bytes_max=self._config.filter_bytes_max,
        )
        sentences_max = wire.check_sentences_max(request.sentences_max)
        collection = await self._reader.collection_settings(parse_collection(request.parent, "parent"))
        query = Query.of(text, options, collection, self._config, top_k_default=TOP_K_DEFAULT)
        key = AnswerKey(tenant=collection.name.tenant, owner=owner(), answer_id=uuid.uuid4().hex)
        events = self._answerer.stream(collection, query, sentences_max=sentences_max)
        messages = wire.numbered(events, key.answer_id)
        if request.resumable:
            messages = wire.unpacked(self._resumable.begin(key, wire.packed(messages)))
        async with aclosing(messages):
            async for message in messages:
                yield message

    async def ResumeAnswer(  # noqa: N802
        self, request: answer_pb2.ResumeAnswerRequest, context: Any
    ) -> AsyncGenerator[answer_pb2.AnswerEvent]:
        del context
        answer_id = wire.check_answer_id(request.answer_id, "answer_id")
        key = AnswerKey(tenant=call.principal().tenant, owner=owner(), answer_id=answer_id)
        async with aclosing(wire.unpacked(self._resumable.resume(key, request.seq))) as messages:
            async for message in messages:
                yield message

    async def Answer(self, request: answer_pb2.AnswerRequest, context: Any) -> answer_pb2.AnswerResponse:  # noqa: N802
        response = answer_pb2.AnswerResponse()
        async with aclosing(self.StreamAnswer(request, context)) as events:
            async for event in events:
                response.answer_id = event.answer_id
                match event.WhichOneof("event"):
                    case "retrieved":
                        response.passages.extend(event.retrieved.passages)
                    case "warning":
                        response.warnings.append(event.warning)
                    case "completed":
                        response.completed.CopyFrom(event.completed)
                    case _:
                        pass
        return response
