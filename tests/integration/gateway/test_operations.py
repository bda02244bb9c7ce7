"""What operators and tools see: health, reflection, metrics, and the gateway while a dependency is down."""

import asyncio
import urllib.request
from collections.abc import Callable

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from integration.gateway.conftest import KEY, Stack, free_port
from integration.gateway.stack import COLLECTION, TEXTS, Client, refusal

from gannet_service import errors

SERVICES = {f"gannet.gateway.v1.{name}Service" for name in ("Search", "Answer", "Document", "Collection")}
DEPENDENCIES = ("ledger", "vectors", "embedder", "reranker", "generator")
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


async def until(channel: grpc.aio.Channel, service: str, status: int) -> None:
    """Wait until the health service says so."""
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=service), timeout=60)
    async for reply in watch:
        if reply.status == status:
            watch.cancel()
            return


async def test_reflection_lists_every_service(stack: Stack):
    """Without credentials, so that tools work."""
    async with grpc.aio.insecure_channel(stack.gateway.address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        requests = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        replies = [reply async for reply in stub.ServerReflectionInfo(requests, timeout=60)]
    names = {service.name for reply in replies for service in reply.list_services_response.service}
    assert names >= SERVICES | {"grpc.health.v1.Health"}


async def test_health_has_an_entry_for_every_service_and_dependency(stack: Stack):
    """All of them serve."""
    async with grpc.aio.insecure_channel(stack.gateway.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", *SERVICES, *(f"dependency:{name}" for name in DEPENDENCIES)):
            assert (await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=60)).status == SERVING


async def test_metrics_count_the_calls(stack: Stack, client: Client):
    """Prometheus text with our histograms, labelled by method and code."""
    await client.search("generator")
    url = f"http://127.0.0.1:{stack.metrics_port}/metrics"
    text = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=60).read().decode())
    assert 'gannet_rpc_duration_seconds_count{code="OK",method="/gannet.gateway.v1.SearchService/Search"}' in text
    assert 'gannet_dependency_up{dependency="vectors"} 1.0' in text


@pytest.fixture(scope="module")
def fragile(start_gateway: Callable[..., Stack]) -> Stack:
    """A gateway whose reranker does not exist, without authentication, which tries a document once."""
    return start_gateway(
        reranker_target=f"127.0.0.1:{free_port()}",
        auth="false",
        bootstrap_tenant="anyone",
        bootstrap_api_key_file=None,
        job_attempts_max=1,
    )


@pytest.fixture
async def fragile_client(fragile: Stack, connect: Callable[[Stack, str], Client]) -> Client:
    """A client of it; the key is not looked at."""
    return connect(fragile, KEY)


async def test_dead_dependencies_degrade_and_then_refuse(fragile: Stack, fragile_client: Client):
    """Without reranker: results that say so. Without vector store: UNAVAILABLE, soon, and NOT_SERVING."""
    client = fragile_client
    assert (await client.create("docs")).name == "tenants/anyone/collections/docs"
    assert all(ack.revision == 1 for ack in await client.upload(TEXTS.items()))
    await until(client.channel, "dependency:reranker", NOT_SERVING)
    found = await client.search("generator function")
    assert found.passages
    assert [(entry.stage, entry.reason) for entry in found.degraded] == [("rerank", "UNAVAILABLE")]
    assert not found.passages[0].scores.HasField("rerank")
    events = await client.answer("When is the yield expression used?")
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds[-1] == "completed"
    warning = next(event.warning for event in events if event.WhichOneof("event") == "warning")
    assert warning.message == "rerank was skipped: UNAVAILABLE"

    fragile.edge.stop()
    async with asyncio.timeout(10):
        refused = await refusal(client.search("generator function"))
    assert type(refused) is errors.DependencyUnavailable
    async with asyncio.timeout(10):
        (failed,) = await client.upload([("new.txt", "A new text.")])
    assert isinstance(errors.from_status(failed), errors.DependencyUnavailable)
    assert (await client.document("yield.md")).revision == 1
    assert isinstance(await refusal(client.document("new.txt")), errors.NotFound)
    await until(client.channel, "", NOT_SERVING)
    await until(client.channel, "dependency:vectors", NOT_SERVING)
    assert (await client.collection(COLLECTION)).document_count == len(TEXTS)
