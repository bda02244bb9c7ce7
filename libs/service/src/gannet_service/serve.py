"""`serve()`: the life of a server from the open port to the last flushed span. Every `__main__` ends in it."""

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

import grpc
import structlog
import uvloop
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from gannet_service import telemetry
from gannet_service.config import EXIT_CONFIG, ServiceConfig
from gannet_service.health import Health
from gannet_service.interceptor import Admit, Authenticate, CheckRoom, ServerInterceptor

PARENT_PERIOD_S = 0.5
# Time for replies that are written but not yet sent.
LAST_WORDS_S = 0.5
HEALTH_SERVICE = "grpc.health.v1.Health"

AddToServer = Callable[[grpc.aio.Server], None]
Hook = Callable[[], Awaitable[None]]

_log: structlog.stdlib.BoundLogger = structlog.get_logger("serve")


class PortTaken(OSError):
    """The address to listen on cannot be had."""


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a service's main coroutine to its end; a taken port is one line and exit code 2, like any unusable setting."""
    try:
        uvloop.run(main())
    except PortTaken as error:
        print(f"config: {error}", file=sys.stderr)  # noqa: T201 - for whoever started it
        raise SystemExit(EXIT_CONFIG) from None


async def serve(
    config: ServiceConfig,
    *,
    service_names: Sequence[str],
    add: Sequence[AddToServer],
    health: Health,
    authenticate: Authenticate | None = None,
    admit: Admit | None = None,
    check_room: Mapping[str, CheckRoom] | None = None,
    warm: Hook | None = None,
    background: Sequence[Callable[[], Coroutine[Any, Any, None]]] = (),
    drain: Sequence[Callable[[], None]] = (),
    close: Sequence[Hook] = (),
) -> None:
    """Serve until SIGTERM, SIGINT or, where configured, the parent's end; then drain, stop, close and flush.

    Args:
        config: the service's configuration.
        service_names: full names of the services, for reflection.
        add: registers one servicer each, e.g. `partial(add_EmbedderServicer_to_server, servicer)`.
        health: keeps the health service's entries.
        authenticate: turns a call's metadata into its principal; None lets every call in.
        admit: decides whether the principal may make the call, and may keep it waiting for its turn; None lets all in.
        check_room: by full method name ("/package.Service/Method"), what refuses its calls before anything is done for them.
        warm: runs after the port opened and before SERVING; cancelled if the server is told to stop first.
        background: coroutines that run as long as the server; one that ends with an error ends the server.
        drain: called when the server stops taking new work; calls in work go on.
        close: run in order after the last call has ended.

    Raises:
        PortTaken: the port is taken.
        ExceptionGroup: a background task failed; the server was stopped in order first.
    """
    interceptor = ServerInterceptor(
        deadline_default_s=config.deadline_default_s,
        concurrent_rpcs_max=config.concurrent_rpcs_max,
        concurrent_streams_max=config.concurrent_streams_max,
        authenticate=authenticate,
        admit=admit,
        check_room=check_room,
    )
    await health.start()
    servicers = [*add, partial(health_pb2_grpc.add_HealthServicer_to_server, health.servicer)]
    server = await _start(config, interceptor, servicers, service_names)
    stop = _told_to_stop()
    try:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(coroutine()) for coroutine in background]
            if config.exit_with_parent:
                running.append(tasks.create_task(_watch_parent(stop)))
            readiness = tasks.create_task(_become_ready(health, warm, service_names))
            await stop.wait()
            _log.info("draining")
            readiness.cancel()  # or a warm-up that ends in the middle of the drain would say SERVING
            await health.drain()
            await asyncio.sleep(config.drain_s)
            interceptor.drain()
            for hook in drain:
                hook()
            for task in running:
                task.cancel()
    finally:
        await _stop(server, interceptor, config.grace_s)
        for release in close:
            await release()
        _log.info("stopped")
        telemetry.flush()


def _told_to_stop() -> asyncio.Event:
    """Set by SIGTERM and SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _stop(server: grpc.aio.Server, interceptor: ServerInterceptor, grace_s: float) -> None:
    """Let calls in work end, at most `grace_s` long.

    New calls are refused in words meanwhile. `server.stop` alone left some of them hanging for the whole grace, and waited for
    watchers of the health service, who never leave.
    """
    interceptor.drain()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(grace_s):
            await interceptor.idle()
    await server.stop(LAST_WORDS_S)
    interceptor.refusals.write()


async def _become_ready(health: Health, warm: Hook | None, service_names: Sequence[str]) -> None:
    if warm is not None:
        await warm()
    # What was loaded to serve stays until the end: the collector need not walk through it again and again, 100 ms at a time.
    gc.collect()
    gc.freeze()
    await health.ready()
    _log.info("serving", services=list(service_names))
    await health.watch()


async def _start(
    config: ServiceConfig, interceptor: ServerInterceptor, add: Sequence[AddToServer], service_names: Sequence[str]
) -> grpc.aio.Server:
    server = grpc.aio.server(interceptors=[interceptor], options=_options(config))
    for register in add:
        register(server)
    reflection.enable_server_reflection([*service_names, HEALTH_SERVICE, reflection.SERVICE_NAME], server)
    port = _bind(server, config)
    await server.start()
    _log.info("listening", host=config.host, port=port, pid=os.getpid())
    return server


def _bind(server: grpc.aio.Server, config: ServiceConfig) -> int:
    try:
        return server.add_insecure_port(f"{config.host}:{config.port}")
    except RuntimeError as error:
        raise PortTaken(f"cannot listen on {config.host}:{config.port}: is another process using the port?") from error


def _options(config: ServiceConfig) -> list[tuple[str, int]]:
    # Calls that have come and are not looked at yet. From 1,000 on gRPC cancels some by lot, in no words, and so many come at once
    # where thousands of callers open their streams again.
    pending_max = max(1000, config.concurrent_rpcs_max + config.concurrent_streams_max)
    options = [
        # Without this a stale process shares the port silently and takes half of the calls.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", config.message_bytes_max),
        ("grpc.max_send_message_length", max(config.message_bytes_max, 64 << 20)),
        # Our clients ping every second to notice dead peers.
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 500),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.server.max_pending_requests", pending_max),
        ("grpc.server.max_pending_requests_hard_limit", 3 * pending_max),
    ]
    if config.connection_age_max_s:
        # No grace limit: new calls go to a new connection, and a stream that is at work (an upload of an hour) ends by itself.
        options.append(("grpc.max_connection_age_ms", int(config.connection_age_max_s * 1000)))
    return options


async def _watch_parent(stop: asyncio.Event) -> None:
    """End the server when the process that started it is gone: a killed `gannet up` leaves nothing behind."""
    parent = os.getppid()
    while os.getppid() == parent:  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(PARENT_PERIOD_S)
    _log.warning("parent gone")
    stop.set()
