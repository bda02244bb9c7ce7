"""The three model servers with small limits, one of each for the whole session, and how a call to them is refused."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc
import pytest

from gannet_service.errors import GannetError, from_rpc_error

TEXT_BYTES_MAX = 4096


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
