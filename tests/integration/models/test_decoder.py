"""A generator server with a decoder, over a socket."""

import asyncio
import contextlib
import random

import grpc
import pytest
from fakes.decoder import manifest_of, write_folder

from gannet.generator.v1 import generator_pb2 as pb
from gannet.generator.v1.generator_pb2_grpc import GeneratorStub
from gannet_service.errors import InvalidInput


@pytest.fixture(scope="module")
def environment(models_dir, tmp_path_factory) -> dict[str, object]:
    """A tiny random decoder beside the generator that quotes; two slots."""
    folder = tmp_path_factory.mktemp("decoder")
    write_folder(folder / "tiny", positions=512)
    manifest = folder / "models.toml"
    manifest.write_text(manifest_of(folder / "tiny", tokens_max=512))
    return {
        "GANNET_GENERATOR_MODELS_DIR": models_dir,
        "GANNET_GENERATOR_MANIFEST": manifest,
        "GANNET_GENERATOR_DECODER_MODEL": "tiny-writer",
        "GANNET_GENERATOR_DECODER_SLOTS": 2,
        "GANNET_GENERATOR_DECODER_TOKENS_MAX": 400,
        "GANNET_GENERATOR_DECODER_THREADS": 1,
    }


@pytest.fixture(scope="module")
def decoder_address(start_service, environment) -> str:
    """A server with it."""
    return start_service("gannet_generator", environment).address


@pytest.fixture
def generator(decoder_address, open_channel) -> GeneratorStub:
    """A stub of the running generator."""
    return GeneratorStub(open_channel(decoder_address))


def ask(content: str = "hello", **options) -> pb.GenerateRequest:
    """One turn for the decoder."""
    message = pb.Message(role=pb.ROLE_USER, content=content)
    return pb.GenerateRequest(generator="decoder", messages=[message], **options)


async def answer(generator, request: pb.GenerateRequest) -> tuple[str, pb.Finished]:
    """The text and how it ended."""
    replies = [reply async for reply in generator.Generate(request)]
    assert [reply.WhichOneof("event") for reply in replies] == ["delta"] * (len(replies) - 1) + ["finished"]
    return "".join(reply.delta.text for reply in replies), replies[-1].finished


async def test_info_lists_the_decoder_behind_the_one_that_quotes(generator):
    """Requests that name none are still answered by quoting."""
    info = await generator.Info(pb.InfoRequest())

    assert info.generator == "extractive"
    decoder = info.generators[1]
    assert (decoder.name, decoder.model, decoder.free_text) == ("decoder", "tiny-writer", True)
    assert (decoder.context_tokens_max, decoder.tokens_max) == (512, 400)


async def test_generate_many_at_once_say_what_each_says_alone(generator):
    """Six answers through two slots, of one length."""
    requests = [ask(f"question {number}", max_tokens=30, min_tokens=30) for number in range(6)]
    alone = [await answer(generator, request) for request in requests]

    together = await asyncio.gather(*(answer(generator, request) for request in requests))

    assert [text for text, _ in together] == [text for text, _ in alone]
    assert {finished.usage.completion_tokens for _, finished in together} == {30}


async def test_generate_cancelled_streams_leave_the_slots_to_others(generator):
    """More callers than slots leave early; the next one is served."""
    for _ in range(5):
        call = generator.Generate(ask(max_tokens=400, min_tokens=400))
        await call.read()
        call.cancel()

    _, finished = await answer(generator, ask(max_tokens=5, min_tokens=5))

    assert finished.reason == pb.FINISH_REASON_LENGTH


async def test_generate_a_thousand_random_cancels_leave_no_open_span(
    start_service, environment, open_channel, collector
):
    """Every call that began has ended and is traced, no call and no slot is in use, and all slots still answer at once."""
    chance = random.Random(0)  # noqa: S311 - a test's dice
    servicer, endpoint = collector
    service = start_service("gannet_generator", environment | {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint})
    stub = GeneratorStub(open_channel(service.address))

    async def leave(events: int, within_s: float | None) -> bool:
        call = stub.Generate(ask(max_tokens=400, min_tokens=400), timeout=within_s)
        with contextlib.suppress(grpc.aio.AioRpcError):
            for _ in range(events):
                await call.read()
        return call.cancel()

    cancelled = served = 0
    while cancelled < 1000:
        count = chance.randint(1, 30)
        gone = await asyncio.gather(*(leave(chance.randint(1, 4), chance.choice((None, 30.0))) for _ in range(count)))
        cancelled += sum(gone)
        served += count
    ends = await asyncio.gather(*(answer(stub, ask(max_tokens=5, min_tokens=5)) for _ in range(2)))
    served += len(ends)
    assert [finished.usage.completion_tokens for _, finished in ends] == [5, 5]

    service.stop()
    assert len([span for span in servicer.spans if span.name.endswith("Generator/Generate")]) == served


async def test_generate_longer_than_the_context_is_refused(generator, refusal):
    """With the field and the limit."""
    error = await refusal(generator.Generate(ask("x" * 600)).read())

    assert isinstance(error, InvalidInput)
    assert error.field == "messages"
    assert "512" in error.message


async def test_count_tokens_is_what_usage_says(generator):
    """The prompt is counted as it is read."""
    request = ask(max_tokens=1)
    _, finished = await answer(generator, request)

    counts = await generator.CountTokens(pb.CountTokensRequest(generator="decoder", messages=request.messages))

    assert counts.prompt_tokens == finished.usage.prompt_tokens
    assert counts.exact
