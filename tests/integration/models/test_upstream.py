"""A generator server that writes through an upstream, from the client's socket to the upstream's."""

import json

import grpc
import pytest
from fakes.openai_server import DONE, Cut, Reply, Stall, chunk, refusal, serving, usage

from gannet.generator.v1 import generator_pb2 as pb
from gannet.generator.v1.generator_pb2_grpc import GeneratorStub
from gannet_service.errors import DependencyUnavailable, NotFound, Overloaded, from_rpc_error

ASK = pb.GenerateRequest(
    messages=[pb.Message(role=pb.ROLE_USER, content="How deep?")],
    question="How deep does a gannet dive?",
    sources=[pb.Source(text="A gannet dives as deep as 22 metres below the surface.")],
)


@pytest.fixture
async def upstream():
    """The upstream of this test."""
    async with serving() as server:
        yield server


@pytest.fixture
async def generator(upstream, start_service, open_channel, models_dir, tmp_path):
    """A generator server with that upstream, key and all."""
    (tmp_path / "key").write_text("sk-test")
    one = {"base_url": upstream.base_url, "model": "wader", "key_file": str(tmp_path / "key"), "attempts_max": 1}
    service = start_service(
        "gannet_generator",
        {
            "GANNET_GENERATOR_MODELS_DIR": models_dir,
            "GANNET_GENERATOR_UPSTREAMS": json.dumps([one]),
            "GANNET_GENERATOR_DEFAULT_GENERATOR": "upstream",
        },
    )
    yield GeneratorStub(open_channel(service.address))
    service.stop()


async def test_upstream_that_is_the_default_answers_and_the_one_that_quotes_by_name(generator, upstream):
    """One request serves both; Info lists them in the order in which they answer; a failure has its status and keeps what was said."""
    upstream.replies = [Reply(steps=[chunk("22 "), chunk("metres"), chunk(finish="stop"), usage(7, 2), DONE])]
    info = await generator.Info(pb.InfoRequest())
    assert [(one.name, one.kind, one.free_text) for one in info.generators] == [
        ("upstream", "upstream", True),
        ("extractive", "extractive", False),
    ]
    *deltas, last = [reply async for reply in generator.Generate(ASK)]
    assert "".join(reply.delta.text for reply in deltas) == "22 metres"
    finished = last.finished
    assert (finished.reason, finished.generator, finished.model) == (pb.FINISH_REASON_STOP, "upstream", "wader-7b")
    assert (finished.usage.prompt_tokens, finished.usage.completion_tokens) == (7, 2)
    assert 0 < finished.timings.first_token_us <= finished.timings.total_us
    assert not finished.HasField("seed")
    assert upstream.asked[0].headers["authorization"] == "Bearer sk-test"

    quoted = pb.GenerateRequest()
    quoted.CopyFrom(ASK)
    quoted.generator = "extractive"
    *_, last = [reply async for reply in generator.Generate(quoted)]
    assert (last.finished.generator, last.finished.HasField("usage")) == ("extractive", False)

    upstream.replies = [Reply(steps=[chunk("22 "), Cut()])]
    said, error = await _failure(generator, ASK)
    assert (said, type(error), error.reason) == ("22 ", DependencyUnavailable, "UPSTREAM_UNREACHABLE")

    upstream.replies = [refusal(429, "slow down", headers={"retry-after": "7"})]
    said, error = await _failure(generator, ASK)
    assert (said, type(error), error.retry_after_s) == ("", Overloaded, 7.0)

    quoted.generator = "other"
    _, error = await _failure(generator, quoted)
    assert type(error) is NotFound


async def test_client_who_leaves_and_deadline_that_passes_close_the_upstreams_stream(generator, upstream):
    """Either stops the upstream's work."""
    upstream.replies = [Reply(steps=[chunk("22 "), Stall()])]
    call = generator.Generate(ASK)
    await anext(aiter(call))
    call.cancel()
    await upstream.until_left(1)
    _, error = await _failure(generator, ASK, deadline_s=0.5)
    assert error.code == grpc.StatusCode.DEADLINE_EXCEEDED
    await upstream.until_left(2)


async def _failure(generator, request, deadline_s=None):
    """What was said before the call failed, and the error."""
    said = ""
    try:
        async for reply in generator.Generate(request, timeout=deadline_s):
            said += reply.delta.text
    except grpc.aio.AioRpcError as error:
        return said, from_rpc_error(error)
    raise AssertionError(f"nothing failed after {said!r}")
