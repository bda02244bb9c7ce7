"""Outgoing calls: channels that notice dead peers, and calls that carry deadline, request id and trace and raise our errors."""

from __future__ import annotations  # grpc's classes are generic in their stubs only

import json
import time
from collections.abc import AsyncGenerator
from typing import Any, TypeVar

import grpc
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from gannet_service import call, metrics
from gannet_service.errors import GannetError, from_rpc_error

# A killed server answers UNAVAILABLE or, for calls on the wire, CANCELLED; both are safe to repeat for calls that only compute.
_RETRY_POLICY = {
    "maxAttempts": 4,
    "initialBackoff": "0.05s",
    "maxBackoff": "0.5s",
    "backoffMultiplier": 3,
    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
}

Q = TypeVar("Q")
R = TypeVar("R")

_tracer = trace.get_tracer("gannet_service")


def open_channel(
    target: str, *, retried_services: tuple[str, ...] = (), message_bytes_max: int = 64 << 20
) -> grpc.aio.Channel:
    """A channel to `target` ("host:port", "dns:///name:port", "ipv4:a:p,b:p"), balanced over all its addresses.

    Args:
        target: where to connect; nothing is connected yet.
        retried_services: full service names whose unary calls may be repeated when the server dies under them.
        message_bytes_max: largest reply received, bytes.
    """
    service_config: dict[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}]}
    if retried_services:
        names = [{"service": service} for service in retried_services]
        service_config["methodConfig"] = [{"name": names, "retryPolicy": _RETRY_POLICY}]
    return grpc.aio.insecure_channel(
        target,
        options=[
            ("grpc.service_config", json.dumps(service_config)),
            ("grpc.max_receive_message_length", message_bytes_max),
            ("grpc.max_send_message_length", message_bytes_max),
            # Keepalive alone does not notice a stopped peer; with ping_timeout it does, within 2 s.
            ("grpc.keepalive_time_ms", 1000),
            ("grpc.keepalive_timeout_ms", 1000),
            ("grpc.http2.ping_timeout_ms", 1000),
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
            ("grpc.dns_min_time_between_resolutions_ms", 5000),
        ],
    )


async def unary(method: grpc.aio.UnaryUnaryMultiCallable[Q, R], request: Q, *, name: str, timeout_s: float) -> R:
    """Make one call.

    Args:
        method: the stub's method.
        request: the request message.
        name: what spans and metrics call it, e.g. "embedder.Embed".
        timeout_s: most it may take; the caller's own deadline shortens it.

    Raises:
        GannetError: what the server said, or DependencyUnavailable. Cancellation cancels the call.
    """
    left_s = call.remaining_s(timeout_s)
    outgoing = _Outgoing(name)
    try:
        response = await method(request, timeout=left_s, metadata=outgoing.metadata)
        outgoing.code = "OK"
        return response
    except grpc.aio.AioRpcError as error:
        raise outgoing.refused(error) from error
    finally:
        outgoing.end()


async def stream(
    method: grpc.aio.UnaryStreamMultiCallable[Q, R], request: Q, *, name: str, timeout_s: float
) -> AsyncGenerator[R]:
    """Make one server-streaming call and yield its messages; closing the iterator cancels it. See `unary`."""
    left_s = call.remaining_s(timeout_s)
    outgoing = _Outgoing(name)
    responses = method(request, timeout=left_s, metadata=outgoing.metadata)
    try:
        async for response in responses:
            yield response
        outgoing.code = "OK"
    except grpc.aio.AioRpcError as error:
        raise outgoing.refused(error) from error
    finally:
        responses.cancel()
        outgoing.end()


class _Outgoing:
    """The span, the clock and the metadata of one outgoing call; `code` is how it ended, CANCELLED unless it is told otherwise."""

    def __init__(self, name: str) -> None:
        self.code = "CANCELLED"
        self._name = name
        self._started = time.monotonic()
        self._span = _tracer.start_span(name, kind=SpanKind.CLIENT)
        # The next hop's parent is this span; no context manager is held, so a generator may be closed from another task.
        self.metadata = call.outgoing_metadata(self._span)

    def end(self) -> None:
        metrics.client_duration_s.labels(self._name, self.code).observe(time.monotonic() - self._started)
        self._span.set_attribute("rpc.grpc.status", self.code)
        if self.code not in ("OK", "CANCELLED"):
            self._span.set_status(Status(StatusCode.ERROR, self.code))
        self._span.end()

    def refused(self, error: grpc.aio.AioRpcError) -> GannetError:
        self.code = error.code().name
        return from_rpc_error(error)
