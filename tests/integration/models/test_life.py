"""What the three servers share: they start or say why not, they go on when callers leave, and they end in order."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from gannet.embedder.v1 import embedder_pb2
from gannet.embedder.v1.embedder_pb2_grpc import EmbedderStub
from gannet.generator.v1 import generator_pb2
from gannet.generator.v1.generator_pb2_grpc import GeneratorStub
from gannet.reranker.v1 import reranker_pb2
from gannet.reranker.v1.reranker_pb2_grpc import RerankerStub
from gannet_service.errors import Overloaded, from_rpc_error

LONG_TEXT = "gannet " * 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One of the servers: how it is started and called. `begin` makes a call that keeps the model busy for a while."""

    name: str
    service: str
    other_model: str
    info: Callable[[grpc.aio.Channel], Any]
    begin: Callable[[grpc.aio.Channel], Any]


def begin_embed(channel: grpc.aio.Channel, texts: int = 16) -> Any:
    """Embed long texts."""
    request = embedder_pb2.EmbedRequest(
        texts=[LONG_TEXT] * texts, purpose=embedder_pb2.PURPOSE_PASSAGE, want_dense=True
    )
    return EmbedderStub(channel).Embed(request)


def begin_rerank(channel: grpc.aio.Channel) -> Any:
    """Rerank long passages."""
    return RerankerStub(channel).Rerank(reranker_pb2.RerankRequest(query="gannet", passages=[LONG_TEXT] * 6))


def begin_generate(channel: grpc.aio.Channel) -> Any:
    """Answer from many sentences; the last event."""
    text = " ".join(f"Gannet number {place} dives into the deep sea from a great height." for place in range(64))
    request = generator_pb2.GenerateRequest(question="How?", sources=[generator_pb2.Source(text=text)])
    return _last(GeneratorStub(channel).Generate(request))


async def _last(call: Any) -> Any:
    return [reply async for reply in call][-1]


KINDS = [
    Kind(
        name="embedder",
        service="gannet.embedder.v1.Embedder",
        other_model="reranker-minilm-l6-qa",
        info=lambda channel: EmbedderStub(channel).Info(embedder_pb2.InfoRequest()),
        begin=begin_embed,
    ),
    Kind(
        name="reranker",
        service="gannet.reranker.v1.Reranker",
        other_model="all-minilm-l6-v2",
        info=lambda channel: RerankerStub(channel).Info(reranker_pb2.InfoRequest()),
        begin=begin_rerank,
    ),
    Kind(
        name="generator",
        service="gannet.generator.v1.Generator",
        other_model="all-minilm-l6-v2",
        info=lambda channel: GeneratorStub(channel).Info(generator_pb2.InfoRequest()),
        begin=begin_generate,
    ),
]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def settings(kind: Kind, models_dir: Path, **values: object) -> dict[str, object]:
    """The environment of a server that reads one text at a time."""
    prefix = f"GANNET_{kind.name.upper()}_"
    named = {"models_dir": models_dir, "sessions": 1, **values}
    return {f"{prefix}{name.upper()}": value for name, value in named.items()}


@each_kind
async def test_server_when_terminated_says_so_finishes_its_calls_and_exits(
    kind, start_service, models_dir, open_channel
):
    """SIGTERM turns health to NOT_SERVING, the call in work still ends well, and the exit status is 0."""
    server = start_service(f"gannet_{kind.name}", settings(kind, models_dir))
    channel = open_channel(server.address)
    reflected = await _reflected(channel)
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=kind.service))
    serving = await watch.read()
    call = asyncio.ensure_future(kind.begin(channel))
    # Calls of one connection start in order: when this one has ended, the long one is in work.
    await kind.info(channel)
    server.terminate()
    leaving = await watch.read()
    assert (serving.status, leaving.status) == (
        health_pb2.HealthCheckResponse.SERVING,
        health_pb2.HealthCheckResponse.NOT_SERVING,
    )
    watch.cancel()
    assert await call is not None
    assert await asyncio.to_thread(server.wait) == 0
    assert kind.service in reflected


async def _reflected(channel: grpc.aio.Channel) -> list[str]:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    call = stub.ServerReflectionInfo(iter([request]))
    reply = await call.read()
    call.cancel()
    return [service.name for service in reply.list_services_response.service]


@each_kind
@pytest.mark.parametrize("fault", ["other kind of model", "broken manifest", "batch over queue"])
def test_server_that_cannot_have_its_model_exits_with_one_line(kind, fault, models_dir, tmp_path):
    """Exit status 2, one line that names the fault, and no traceback."""
    manifest = tmp_path / "models.toml"
    manifest.write_text("[models.x]\nkindd = 1\n")
    bound = "sentences_scored_max" if kind.name == "generator" else "batch_texts_max"
    values, expected = {
        "other kind of model": ({"model": kind.other_model}, kind.other_model),
        "broken manifest": ({"manifest": manifest}, "models.toml"),
        "batch over queue": ({bound: 9, "queue_texts_max": 8}, bound),
    }[fault]
    environment = {name: str(value) for name, value in settings(kind, models_dir, **values).items()}
    ended = subprocess.run(
        [sys.executable, "-m", f"gannet_{kind.name}"], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert expected in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("kind", KINDS[:2], ids=lambda kind: kind.name)
def test_server_that_cannot_have_its_gpu_exits_with_one_line(kind, models_dir):
    """A GPU that was configured is never replaced by the CPU in silence; the line names the missing package."""
    environment = {name: str(value) for name, value in settings(kind, models_dir, device="cuda").items()}
    ended = subprocess.run(
        [sys.executable, "-m", f"gannet_{kind.name}"], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert "device cuda needs onnxruntime-gpu" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.fixture(scope="module")
def small_server(start_service, models_dir):
    """An embedder whose queue holds 16 texts."""
    values = {"queue_texts_max": 16, "batch_texts_max": 16}
    return start_service("gannet_embedder", settings(KINDS[0], models_dir, **values))


async def test_embedder_with_a_full_queue_refuses_with_retry_info_and_serves_the_rest(small_server, open_channel):
    """Of four batches that fill the queue each, some are refused with a hint and the others answered."""
    channel = open_channel(small_server.address)
    outcomes = await asyncio.gather(*(begin_embed(channel) for _ in range(4)), return_exceptions=True)
    refused = [from_rpc_error(outcome) for outcome in outcomes if isinstance(outcome, grpc.aio.AioRpcError)]
    assert 0 < len(refused) < 4
    for error in refused:
        assert isinstance(error, Overloaded)
        assert error.retry_after_s > 0


async def test_embedder_whose_caller_leaves_serves_the_next_at_once(small_server, open_channel):
    """A cancelled call is logged as such, and its texts make room for a batch that needs the whole queue."""
    channel = open_channel(small_server.address)
    call = begin_embed(channel)
    await KINDS[0].info(channel)
    call.cancel()
    while (await asyncio.to_thread(small_server.wait_for, "rpc"))["code"] != "CANCELLED":
        pass
    reply = await begin_embed(channel, texts=15)
    assert len(reply.results) == 15
