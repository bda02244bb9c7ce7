"""The standard health service, asked by the client for a gateway and by the local stack for each of its processes."""

from __future__ import annotations  # grpc's classes are generic in their stubs only

import contextlib
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from gannet_client.errors import NotFound, Unimplemented
from gannet_client.transport import Transport
from gannet_client.types import Health, ServingStatus

# Asked one by one where a server does not list its health.
DEPENDENCIES = ("embedder", "reranker", "generator", "vectors", "ledger")

# The published type stubs of grpc_health are older than List.
_LIST_REQUEST: Any = health_pb2.HealthListRequest  # pyright: ignore[reportAttributeAccessIssue]
_LIST_RESPONSE: Any = health_pb2.HealthListResponse  # pyright: ignore[reportAttributeAccessIssue]


async def health(transport: Transport, timeout_s: float) -> Health:
    """The state of a server and of everything that it reports on.

    Raises:
        GannetError: it cannot be reached.
    """
    try:
        parts = await _listed(transport, timeout_s)
    except Unimplemented:
        parts = await _checked(transport, timeout_s)
    return Health(status=parts.pop("", ServingStatus.UNKNOWN), parts=parts)


async def _listed(transport: Transport, timeout_s: float) -> dict[str, ServingStatus]:
    method: grpc.aio.UnaryUnaryMultiCallable[Any, Any] = transport.channel.unary_unary(
        "/grpc.health.v1.Health/List",
        request_serializer=_LIST_REQUEST.SerializeToString,
        response_deserializer=_LIST_RESPONSE.FromString,
    )
    listed = await transport.unary(method, _LIST_REQUEST(), timeout_s)
    return {name: ServingStatus(entry.status) for name, entry in listed.statuses.items()}


async def _checked(transport: Transport, timeout_s: float) -> dict[str, ServingStatus]:
    parts: dict[str, ServingStatus] = {}
    method = check_method(transport.channel)
    for name in ("", *(f"dependency:{dependency}" for dependency in DEPENDENCIES)):
        with contextlib.suppress(NotFound):
            checked = await transport.unary(method, health_pb2.HealthCheckRequest(service=name), timeout_s)
            parts[name] = ServingStatus(checked.status)
    return parts


def check_method(
    channel: grpc.aio.Channel,
) -> grpc.aio.UnaryUnaryMultiCallable[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse]:
    """Health/Check on a channel; grpc_health's own stub is not typed."""
    return channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
