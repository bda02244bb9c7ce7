"""The three model servers with small limits, one of each for the whole session; how a call is refused; a collector of spans."""

import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from gannet_service.errors import GannetError, from_rpc_error

TEXT_BYTES_MAX = 4096


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps the spans that it is sent."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.arrived = threading.Event()

    def Export(self, request: Any, _context: Any) -> Any:  # noqa: N802
        """Take one export."""
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.spans += scope.spans
        self.arrived.set()
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
def collector() -> Iterator[tuple[Collector, str]]:
    """A collector and its endpoint."""
    servicer = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, f"http://127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture(scope="session")
def embedder_address(start_service, models_dir: Path) -> str:
    """An embedder that takes at most 16 texts of 4 KiB, 4 of them for token vectors."""
    environment = {
        "GANNET_EMBEDDER_MODELS_DIR": models_dir,
        "GANNET_EMBEDDER_BATCH_TEXTS_MAX": 16,
        "GANNET_EMBEDDER_TEXT_BYTES_MAX": TEXT_BYTES_MAX,
        "GANNET_EMBEDDER_TOKEN_TEXTS_MAX": 4,
    }
    return start_service("gannet_embedder", environment).address


@pytest.fixture(scope="session")
def reranker_address(start_service, models_dir: Path) -> str:
    """A reranker that takes at most 16 passages of 4 KiB, and reads 4 windows of each."""
    environment = {
        "GANNET_RERANKER_MODELS_DIR": models_dir,
        "GANNET_RERANKER_BATCH_TEXTS_MAX": 16,
        "GANNET_RERANKER_TEXT_BYTES_MAX": TEXT_BYTES_MAX,
        "GANNET_RERANKER_WINDOWS_MAX": 4,
    }
    return start_service("gannet_reranker", environment).address


@pytest.fixture(scope="session")
def generator_address(start_service, models_dir: Path) -> str:
    """A generator that takes at most 4 sources of 4 KiB."""
    environment = {
        "GANNET_GENERATOR_MODELS_DIR": models_dir,
        "GANNET_GENERATOR_SOURCES_MAX": 4,
        "GANNET_GENERATOR_TEXT_BYTES_MAX": TEXT_BYTES_MAX,
    }
    return start_service("gannet_generator", environment).address


@pytest.fixture
async def open_channel() -> AsyncIterator[Callable[[str], grpc.aio.Channel]]:
    """Opens channels that are closed with the test."""
    channels: list[grpc.aio.Channel] = []

    def connect(address: str) -> grpc.aio.Channel:
        channels.append(grpc.aio.insecure_channel(address))
        return channels[-1]

    yield connect
    for channel in channels:
        await channel.close()


@pytest.fixture
def refusal() -> Callable[[Awaitable[object]], Awaitable[GannetError]]:
    """The error, with its details, that a call ends in."""

    async def refused(call: Awaitable[object]) -> GannetError:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        return from_rpc_error(caught.value)

    return refused
