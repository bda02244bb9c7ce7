"""Streams that are gone on with, over sockets."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.redis_server import RedisServer
from integration.gateway.conftest import KEY, Stack
from integration.gateway.stack import COLLECTION, TEXTS, TIMEOUT_S, Client, refusal

from gannet.gateway.v1 import answer_pb2, answer_pb2_grpc
from gannet_service.errors import InvalidInput, NotFound

QUESTION = "When is the yield expression used?"


async def begun(client: Client, take: int) -> list[answer_pb2.AnswerEvent]:
    """The first `take` events of a resumable answer; then the client leaves."""
    stub = answer_pb2_grpc.AnswerServiceStub(client.channel)
    request = answer_pb2.AnswerRequest(parent=COLLECTION, query=QUESTION, resumable=True)
    stream = stub.StreamAnswer(request, metadata=client.metadata, timeout=TIMEOUT_S)
    seen = [await stream.read() for _ in range(take)]
    stream.cancel()
    return seen


async def resumed(client: Client, answer_id: str, seq: int) -> list[answer_pb2.AnswerEvent]:
    """The rest."""
    stub = answer_pb2_grpc.AnswerServiceStub(client.channel)
    request = answer_pb2.ResumeAnswerRequest(answer_id=answer_id, seq=seq)
    return [event async for event in stub.ResumeAnswer(request, metadata=client.metadata, timeout=TIMEOUT_S)]


def told(events: list[answer_pb2.AnswerEvent]) -> list[Any]:
    """What an answer says, without the times and names that differ."""
    kinds = ("delta", "citation")
    return [getattr(event, kind) for event in events if (kind := event.WhichOneof("event")) in kinds]


async def test_answer_left_after_its_first_event_is_resumed_whole(client: Client):
    """First part and rest are one stream, equal to one that nobody left."""
    first = await begun(client, 1)
    rest = await resumed(client, first[0].answer_id, 1)
    events = [*first, *rest]
    assert [event.seq for event in events] == list(range(len(events)))
    assert {event.answer_id for event in events} == {first[0].answer_id}
    assert rest[-1].WhichOneof("event") == "completed"
    assert told(events) == told(await client.answer(QUESTION))
    assert await resumed(client, first[0].answer_id, 0) == events


async def test_answer_of_another_tenant_is_not_resumed(client: Client, other: Client):
    """Nor one that was not asked to be kept."""
    (started,) = await begun(client, 1)
    assert isinstance(await refusal(resumed(other, started.answer_id, 0)), NotFound)
    plain = await client.answer(QUESTION)
    assert isinstance(await refusal(resumed(client, plain[0].answer_id, 0)), NotFound)


@pytest.mark.parametrize("answer_id, seq, field", [("x", 0, "answer_id"), (None, 10_000, "seq")])
async def test_resume_of_what_cannot_be_is_refused(answer_id: str | None, seq: int, field: str, client: Client):
    """The field is named."""
    if answer_id is None:
        answer_id = (await begun(client, 1))[0].answer_id
    error = await refusal(resumed(client, answer_id, seq))
    assert (type(error), error.field) == (InvalidInput, field)


@pytest.fixture
def pair(tmp_path: Path, start_gateway: Callable[..., Stack]) -> Iterator[list[Stack]]:
    """Two gateways that share a Redis."""
    redis = RedisServer(tmp_path)
    settings = {"cache_redis_url": redis.url, "cache_redis_password_file": redis.password_file}
    yield [start_gateway(**settings, cache_redis_timeout_s=1) for _ in range(2)]
    redis.kill()


async def test_answer_is_resumed_at_another_gateway(pair: list[Stack], connect: Callable[[Stack, str], Client]):
    """The one that did not make the answer goes on with it."""
    here, there = (connect(stack, KEY) for stack in pair)
    await here.create("docs")
    await here.upload(TEXTS.items())
    first = await begun(here, 1)
    rest = await resumed(there, first[0].answer_id, 1)
    assert rest[-1].WhichOneof("event") == "completed"
    assert [event.seq for event in (*first, *rest)] == list(range(len(rest) + 1))
    assert rest == await resumed(here, first[0].answer_id, 1)
