import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from integration.conftest import Service, StartService
from integration.gateway.stack import TEXTS, Client, refusal

from gannet_gateway.auth import digest_of
from gannet_gateway.ledger.accounts import Accounts
from gannet_gateway.ledger.engine import open_database
from gannet_gateway.tenants.records import ApiKey, Tenant
from gannet_gateway.tenants.scopes import EVERY_SCOPE, Scope
from gannet_service.errors import NotFound

KEY, OTHER_KEY = "gnt_first_tenants_key", "gnt_other_tenants_key"


class Stack(NamedTuple):
    """The processes that a test may look into."""

    gateway: Service
    embedder: Service
    edge: Service
    metrics_port: int


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def model_servers(start_service: StartService, models_dir: Path) -> dict[str, Service]:
    """Embedder, reranker and generator with the shipped defaults."""
    return {
        name: start_service(f"gannet_{name}", {f"GANNET_{name.upper()}_MODELS_DIR": models_dir})
        for name in ("embedder", "reranker", "generator")
    }


@pytest.fixture(scope="session")
def start_gateway(
    start_service: StartService, model_servers: dict[str, Service], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Stack]:
    """Starts a gateway with a vector store of its own and two tenants; settings replace the defaults, None leaves one out."""

    def start(**settings: object) -> Stack:
        folder = tmp_path_factory.mktemp("gateway")
        (folder / "data").mkdir()
        asyncio.run(_add_other_tenant(folder / "data"))
        (folder / "key").write_text(KEY)
        edge = start_service("gannet_edge", {"GANNET_EDGE_DATA_DIR": folder / "vectors"})
        metrics_port = free_port()
        defaults = {f"{name}_target": server.address for name, server in model_servers.items()} | {
            "qdrant_url": f"http://{edge.address}",
            "data_dir": folder / "data",
            "bootstrap_api_key_file": folder / "key",
            "bootstrap_tenant": "first",
            "document_bytes_max": 1 << 20,
            "metrics_port": metrics_port,
        }
        environment = {
            f"GANNET_GATEWAY_{name.upper()}": value
            for name, value in (defaults | settings).items()
            if value is not None
        }
        gateway = start_service("gannet_gateway", environment)
        return Stack(gateway, model_servers["embedder"], edge, metrics_port)

    return start


@pytest.fixture(scope="session")
def stack(start_gateway: Callable[..., Stack]) -> Stack:
    """The one gateway that no test breaks."""
    return start_gateway()


@pytest.fixture
async def connect() -> AsyncIterator[Callable[[Stack, str], Client]]:
    """Opens clients that are closed with the test."""
    clients: list[Client] = []

    def open_client(stack: Stack, key: str) -> Client:
        clients.append(Client(stack.gateway.address, key))
        return clients[-1]

    yield open_client
    for client in clients:
        await client.close()


@pytest.fixture
async def client(stack: Stack, connect: Callable[[Stack, str], Client]) -> Client:
    """The first tenant, whose collection "docs" holds TEXTS."""
    opened = connect(stack, KEY)
    if isinstance(await _error(opened.collection()), NotFound):
        await opened.create("docs")
        acks = await opened.upload(TEXTS.items())
        assert [ack.revision for ack in acks] == [1] * len(TEXTS)
    return opened


@pytest.fixture
async def other(stack: Stack, connect: Callable[[Stack, str], Client]) -> Client:
    """The other tenant."""
    return connect(stack, OTHER_KEY)


@pytest.fixture
async def unchanged(client: Client, stack: Stack) -> AsyncIterator[None]:
    """Whatever the test does: the collection and its documents are as before, and the process is alive."""
    before = (await client.collection(), await client.documents())
    yield
    assert (await client.collection(), await client.documents()) == before
    assert (await client.search("generator", top_k=1)).passages
    assert not any('"code": "INTERNAL"' in line for line in stack.gateway.lines)


async def _error(call: Any) -> BaseException | None:
    try:
        return await refusal(call)
    except AssertionError:
        return None


async def _add_other_tenant(data_dir: Path) -> None:
    database = await open_database(data_dir)
    accounts = Accounts(database)
    await accounts.create_tenant(Tenant(id="second"))
    scopes = tuple(sorted(EVERY_SCOPE - {Scope.ADMIN}))
    await accounts.add_key(ApiKey(tenant="second", digest=digest_of(OTHER_KEY), label="test", scopes=scopes))
    await database.close()
