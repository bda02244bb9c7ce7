"""A server with more than one model, and with more open streams than anyone has threads."""

import asyncio
import os
import signal
from pathlib import Path

import grpc
import numpy as np
import pytest
from reference import tiny_model

from gannet.embedder.v1 import embedder_pb2 as pb
from gannet.embedder.v1.embedder_pb2_grpc import EmbedderStub
from gannet_service.errors import DependencyUnavailable, NotFound, from_rpc_error

STREAMS = 2000
MANIFEST = """
[models.{name}]
kind = "bi-encoder"
source = {{ folder = "{name}" }}
licence = "none"
tokens_max = {tokens_max}
precision = "fp32"
prompts = {{ query = "one two " }}
"""


@pytest.fixture(scope="module")
def two_models(start_service, tmp_path_factory: pytest.TempPathFactory):
    """An embedder that serves "first" and, beside it, "second"."""
    return start_service("gannet_embedder", _settings(tmp_path_factory.mktemp("models")))


@pytest.fixture
def two_models_to_stop(start_service, tmp_path: Path):
    """Another such embedder, which does not outlive its test; it would give calls in work five minutes."""
    return start_service("gannet_embedder", _settings(tmp_path) | {"GANNET_EMBEDDER_GRACE_S": 300})


def _settings(folder: Path) -> dict[str, object]:
    for seed, name in enumerate(("first", "second")):
        tiny_model.write(folder / name, weights=tiny_model.random_weights(seed=seed))
    entries = [MANIFEST.format(name="first", tokens_max=12), MANIFEST.format(name="second", tokens_max=16)]
    (folder / "models.toml").write_text("".join(entries))
    settings = {
        "MODELS_DIR": folder / "built",
        "MANIFEST": folder / "models.toml",
        "MODEL": "first",
        "EXTRA_MODELS": '["second"]',
        "CONCURRENT_RPCS_MAX": 8,  # streams that wait are not calls in work
    }
    return {f"GANNET_EMBEDDER_{name}": value for name, value in settings.items()}


@pytest.fixture
def embedder(two_models, open_channel) -> EmbedderStub:
    """A stub of the running embedder."""
    return EmbedderStub(open_channel(two_models.address))


def ask(model: str = "") -> pb.EmbedRequest:
    """One text for one of the models."""
    return pb.EmbedRequest(texts=["three four"], purpose=pb.PURPOSE_QUERY, want_dense=True, model=model)


async def test_embed_by_model_is_answered_by_that_model(embedder):
    """No name means the first; each model has its own vectors."""
    vectors = {name: (await embedder.Embed(ask(name))).results[0].dense.data for name in ("", "first", "second")}
    assert vectors[""] == vectors["first"]
    first, second = (np.frombuffer(vectors[name], "<f4") for name in ("first", "second"))
    assert float(first @ second) < 0.99


async def test_info_by_model_describes_that_model_and_names_all(embedder):
    """Each has its own digest and limits."""
    infos = [await embedder.Info(pb.InfoRequest(model=name)) for name in ("", "second")]
    assert [(info.model, info.tokens_max) for info in infos] == [("first", 12), ("second", 16)]
    assert [list(info.models) for info in infos] == [["first", "second"]] * 2
    assert infos[0].model_digest != infos[1].model_digest


async def test_unknown_model_is_not_found_and_both_are_named(embedder, refusal):
    """The caller learns what there is."""
    error = await refusal(embedder.Embed(ask("third")))
    assert isinstance(error, NotFound)
    assert "first, second" in error.message


async def test_tokenize_with_a_purpose_counts_the_prompt_and_places_the_text(embedder):
    """The prompt's tokens are what the model would read, and stand nowhere in the text."""
    request = pb.TokenizeRequest(texts=["three four"], purpose=pb.PURPOSE_QUERY)
    (result,) = (await embedder.Tokenize(request)).results
    assert list(result.tokens) == ["[CLS]", "one", "two", "three", "four", "[SEP]"]
    assert list(zip(result.start_bytes, result.end_bytes, strict=True))[3:5] == [(0, 5), (6, 10)]
    assert [*result.start_bytes[1:3], *result.end_bytes[1:3]] == [0, 0, 0, 0]
    assert (await embedder.Embed(ask())).results[0].token_count == len(result.ids)


async def test_thousands_of_open_streams_are_answered_and_take_no_threads(two_models, embedder):
    """All are open at once, each is answered, and the server has as many threads as before."""
    await embedder.Embed(ask())
    threads = _threads(two_models.pid)
    calls = [embedder.EmbedStream() for _ in range(STREAMS)]
    message = pb.EmbedStreamRequest(request=ask())

    async def say(call: grpc.aio.StreamStreamCall) -> str:
        await call.write(message)
        return (await call.read()).WhichOneof("outcome")

    # At once: the server finds all of them when it comes back.
    os.kill(two_models.pid, signal.SIGSTOP)
    asked = [asyncio.create_task(say(call)) for call in calls]
    for _ in range(20):
        await asyncio.sleep(0)
    os.kill(two_models.pid, signal.SIGCONT)
    first = await asyncio.gather(*asked)
    second = await asyncio.gather(*map(say, calls))

    assert first == second == ["response"] * STREAMS
    assert _threads(two_models.pid) - threads < 20
    for call in calls:
        await call.done_writing()
    assert [await call.read() for call in calls] == [grpc.aio.EOF] * STREAMS


async def test_open_streams_end_when_the_server_is_told_to_stop(two_models_to_stop, open_channel):
    """Each gets the answer to what it asked, then hears that the server is going away, long before the grace is over."""
    embedder = EmbedderStub(open_channel(two_models_to_stop.address))
    calls = [embedder.EmbedStream() for _ in range(20)]
    for call in calls:
        await call.write(pb.EmbedStreamRequest(request=ask()))
        assert (await call.read()).WhichOneof("outcome") == "response"

    os.kill(two_models_to_stop.pid, signal.SIGTERM)

    for call in calls:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        error = from_rpc_error(caught.value)
        assert (type(error), error.reason) == (DependencyUnavailable, "DRAINING")


def _threads(pid: int) -> int:
    return len([*Path(f"/proc/{pid}/task").iterdir()])
