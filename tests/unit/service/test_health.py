import asyncio

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest

from gannet_service import health
from gannet_service.health import NOT_SERVING, SERVING, Health, grpc_probe


class Dependency:
    """Answers its probe, or does not."""

    def __init__(self, *, up: bool) -> None:
        self.up = up
        self.probed = asyncio.Event()

    async def probe(self) -> None:
        self.probed.set()
        if not self.up:
            raise ConnectionError("down")


async def status(of: Health, service: str = "") -> int:
    """What the health service says."""
    return (await of.servicer.Check(HealthCheckRequest(service=service), None)).status


async def test_server_before_ready_is_not_serving():
    """Whatever its dependencies say."""
    checked = Health(("a.B",), required={"ledger": Dependency(up=True).probe})
    await checked.start()
    assert [await status(checked, name) for name in ("", "a.B")] == [NOT_SERVING, NOT_SERVING]


async def test_required_dependency_down_makes_every_service_not_serving():
    """And its own entry says which one it is."""
    down, up = Dependency(up=False), Dependency(up=True)
    checked = Health(("a.B",), required={"ledger": up.probe, "vectors": down.probe})
    await checked.ready()
    assert [await status(checked, name) for name in ("", "a.B", "dependency:vectors")] == [NOT_SERVING] * 3
    assert await status(checked, "dependency:ledger") == SERVING


async def test_list_names_every_entry_and_its_state():
    """What `gannet status` shows comes in one call."""
    checked = Health(("a.B",), optional={"reranker": Dependency(up=False).probe})
    await checked.ready()
    entries = (await checked.servicer.List(None, None)).statuses
    assert {name: entry.status for name, entry in entries.items()} == {
        "": SERVING,
        "a.B": SERVING,
        "dependency:reranker": NOT_SERVING,
    }


async def test_optional_dependency_down_leaves_services_serving():
    """A search without reranker is a search."""
    checked = Health(("a.B",), optional={"reranker": Dependency(up=False).probe})
    await checked.ready()
    assert [await status(checked, name) for name in ("", "a.B")] == [SERVING, SERVING]
    assert await status(checked, "dependency:reranker") == NOT_SERVING


async def test_watch_of_a_dependency_that_dies_and_returns_follows(monkeypatch: pytest.MonkeyPatch):
    """The entry goes down and comes back without a restart."""
    monkeypatch.setattr(health, "PROBE_PERIOD_S", 0.0)
    dependency = Dependency(up=True)
    checked = Health((), required={"ledger": dependency.probe})
    await checked.ready()
    watching = asyncio.ensure_future(checked.watch())
    for up, expected in ((False, NOT_SERVING), (True, SERVING)):
        dependency.up = up
        async with asyncio.timeout(5):
            while await status(checked) != expected:  # noqa: ASYNC110 - the health service has no event to wait for
                await asyncio.sleep(0)
    watching.cancel()
    await asyncio.wait([watching])


async def test_probe_that_hangs_counts_as_down(monkeypatch: pytest.MonkeyPatch):
    """A dependency that does not answer does not serve."""
    monkeypatch.setattr(health, "PROBE_TIMEOUT_S", 0.01)

    async def hang() -> None:
        await asyncio.Event().wait()

    checked = Health((), required={"ledger": hang})
    await checked.ready()
    assert await status(checked) == NOT_SERVING


async def test_drained_server_stays_not_serving():
    """A server that is told to stop while it becomes ready never says SERVING."""
    dependency = Dependency(up=True)
    checked = Health((), required={"ledger": dependency.probe})
    await checked.ready()
    await checked.drain()
    assert await status(checked) == NOT_SERVING


@pytest.mark.parametrize("serving", [True, False])
async def test_grpc_probe_of_a_peer_reports_what_it_says(serving: bool):  # noqa: FBT001 - a parametrised test
    """A peer that answers NOT_SERVING is as good as down."""
    peer = Health(())
    await peer.start()
    if serving:
        await peer.ready()
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(peer.servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        checked = Health((), required={"peer": grpc_probe(channel)})
        await checked.ready()
    await server.stop(None)
    expected = health_pb2.HealthCheckResponse.SERVING if serving else NOT_SERVING
    assert await status(checked) == expected
