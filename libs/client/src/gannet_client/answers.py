"""Streams of answers that go on where they broke."""

import contextlib
from collections.abc import AsyncGenerator

from gannet.gateway.v1 import answer_pb2
from gannet.gateway.v1.answer_pb2_grpc import AnswerServiceStub
from gannet_client import types, wire
from gannet_client.errors import ServerError, Unavailable
from gannet_client.transport import Transport

RESUMED_MAX = 5


async def stream_answer(
    transport: Transport, request: answer_pb2.AnswerRequest, timeout_s: float
) -> AsyncGenerator[types.AnswerEvent]:
    """The events of an answer. One that is resumable is gone on with when the connection breaks, `timeout_s` each time."""
    stub = AnswerServiceStub(transport.channel)
    messages = transport.stream(stub.StreamAnswer, request, timeout_s)
    answer_id, seq, resumed = "", 0, 0
    while True:
        try:
            async with contextlib.aclosing(_until_completed(messages)) as events:
                async for message in events:
                    answer_id, seq = message.answer_id, message.seq + 1
                    event = wire.answer_event(message)
                    if event is not None:
                        yield event
            return
        except Unavailable as error:
            resumed += 1
            if not (request.resumable and answer_id and error.is_connection_lost) or resumed > RESUMED_MAX:
                raise
        messages = transport.stream(stub.ResumeAnswer, _from(answer_id, seq), timeout_s)


async def resume_answer(
    transport: Transport, answer_id: str, seq: int, timeout_s: float
) -> AsyncGenerator[types.AnswerEvent]:
    """The events of an earlier answer from `seq` on."""
    stub = AnswerServiceStub(transport.channel)
    messages = transport.stream(stub.ResumeAnswer, _from(answer_id, seq), timeout_s)
    async with contextlib.aclosing(_until_completed(messages)) as events:
        async for message in events:
            event = wire.answer_event(message)
            if event is not None:
                yield event


async def _until_completed(messages: AsyncGenerator[answer_pb2.AnswerEvent]) -> AsyncGenerator[answer_pb2.AnswerEvent]:
    completed = False
    async with contextlib.aclosing(messages):
        async for message in messages:
            completed = message.HasField("completed")
            yield message
    if not completed:
        raise ServerError("the stream ended without the answer's last event", reason="INCOMPLETE_ANSWER")


def _from(answer_id: str, seq: int) -> answer_pb2.ResumeAnswerRequest:
    return answer_pb2.ResumeAnswerRequest(answer_id=answer_id, seq=seq)
