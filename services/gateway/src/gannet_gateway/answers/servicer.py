"""AnswerService on the wire."""

import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from gannet.gateway.v1 import answer_pb2, answer_pb2_grpc
from gannet_gateway.answers import wire
from gannet_gateway.answers.answer import Answerer
from gannet_gateway.cache.reader import CollectionReader
from gannet_gateway.config import GatewayConfig
from gannet_gateway.names import parse_collection
from gannet_gateway.search import wire as search_wire
from gannet_gateway.search.query import Query

TOP_K_DEFAULT = 5


class AnswerServicer(answer_pb2_grpc.AnswerServiceServicer):
    """See answer.proto."""

    def __init__(self, reader: CollectionReader, answerer: Answerer, config: GatewayConfig) -> None:
        self._reader = reader
        self._answerer = answerer
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
        answer_id = uuid.uuid4().hex
        seq = 0
        async with aclosing(self._answerer.stream(collection, query, sentences_max=sentences_max)) as events:
            async for event in events:
                yield wire.from_event(event, seq=seq, answer_id=answer_id)
                seq += 1

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
