"""Health that tells the truth: the server's own state, and one named entry a dependency, in the standard health service."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health_pb2
from grpc_health.v1._async import HealthServicer

from gannet_service import metrics

DEPENDENCY_PREFIX = "dependency:"
PROBE_PERIOD_S = 2.0
PROBE_TIMEOUT_S = 2.0

Probe = Callable[[], Awaitable[None]]
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

# The published stubs are older than the message.
_HEALTH_LIST: Any = vars(health_pb2)["HealthListResponse"]

_log: structlog.stdlib.BoundLogger = structlog.get_logger("health")


class _Servicer(HealthServicer):
    """The standard servicer with List, which its asyncio edition leaves out."""

    async def List(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Every entry and its state."""
        del request, context
        statuses = {name: health_pb2.HealthCheckResponse(status=status) for name, status in self._server_status.items()}
        return _HEALTH_LIST(statuses=statuses)


class Health:
    """Keeps the standard health service's entries true.

    "" and every service name are SERVING once the server is ready and each *required* dependency answered its last probe.
    "dependency:<name>" is that dependency alone. A probe is a coroutine function that raises when the dependency does not serve.
    """

    def __init__(
        self,
        services: tuple[str, ...],
        *,
        required: Mapping[str, Probe] | None = None,
        optional: Mapping[str, Probe] | None = None,
    ) -> None:
        self.servicer = _Servicer()
        self._services = ("", *services)
        self._required = dict(required or {})
        self._probes = {**self._required, **(optional or {})}
        self._up: dict[str, bool] = {}
        self._ready = False

    async def start(self) -> None:
        """Say NOT_SERVING for everything, before the port opens."""
        await self._publish()

    async def ready(self) -> None:
        """The server itself can serve from now on; probes every dependency once before it says so."""
        await self._probe_all()
        self._ready = True
        await self._publish()

    async def drain(self) -> None:
        """The server is going away."""
        self._ready = False
        await self._publish()

    async def watch(self) -> None:
        """Probe the dependencies until cancelled."""
        while self._probes:
            await asyncio.sleep(PROBE_PERIOD_S)
            await self._probe_all()
            await self._publish()

    async def _probe_all(self) -> None:
        results = await asyncio.gather(*(self._probe(name, probe) for name, probe in self._probes.items()))
        for name, up in zip(self._probes, results, strict=True):
            if self._up.get(name) is not up:
                _log.info("dependency", dependency=name, up=up)
            self._up[name] = up
            metrics.dependency_up.labels(name).set(up)

    async def _probe(self, name: str, probe: Probe) -> bool:
        started = time.monotonic()
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await probe()
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the dependency does not serve
            _log.debug("probe failed", dependency=name, error=repr(error), after_s=time.monotonic() - started)
            return False
        return True

    async def _publish(self) -> None:
        serving = self._ready and all(self._up.get(name, False) for name in self._required)
        for service in self._services:
            await self.servicer.set(service, SERVING if serving else NOT_SERVING)
        for name in self._probes:
            await self.servicer.set(f"{DEPENDENCY_PREFIX}{name}", SERVING if self._up.get(name) else NOT_SERVING)


def grpc_probe(channel: grpc.aio.Channel) -> Probe:
    """A probe that asks the standard health service at the other end."""
    check = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )

    async def probe() -> None:
        reply = await check(health_pb2.HealthCheckRequest(), timeout=PROBE_TIMEOUT_S)
        if reply.status != SERVING:
            raise ConnectionError("the peer says that it does not serve")

    return probe
