"""A server of nothing but `serve()`, for tests of a process's life: `python tiny_server.py`.

Ask "hold" answers once the process got SIGUSR1; any other text is answered at once. TINY_WARM=hang never becomes ready, TINY_WARM=slow
becomes ready at SIGUSR1, TINY_BACKGROUND=fail ends its background task with an error.
"""

import asyncio
import signal
from functools import partial
from typing import Any, ClassVar, Literal

import grpc
import structlog
from google.protobuf.wrappers_pb2 import StringValue
from pydantic_settings import SettingsConfigDict

from gannet_service import telemetry
from gannet_service.config import ServiceConfig, load
from gannet_service.health import Health
from gannet_service.serve import run, serve

SERVICE = "test.Tiny"


class TinyConfig(ServiceConfig):
    """What the tests switch."""

    model_config = SettingsConfigDict(env_prefix="TINY_")
    service: ClassVar[str] = "tiny"

    warm: Literal["", "hang", "slow"] = ""
    background: Literal["", "fail"] = ""


async def main() -> None:
    """Serve."""
    config = load(TinyConfig)
    telemetry.set_up(config)
    log = structlog.get_logger("tiny")
    released = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, released.set)

    async def ask(request: StringValue, _context: Any) -> StringValue:
        log.info("asked", value=request.value)
        if request.value == "hold":
            await released.wait()
        return request

    async def warm() -> None:
        log.info("warming")
        if config.warm:
            await (asyncio.Event() if config.warm == "hang" else released).wait()

    async def background() -> None:
        if config.background:
            raise RuntimeError("the background task failed")

    async def close() -> None:
        log.info("closed")

    handler = grpc.unary_unary_rpc_method_handler(ask, StringValue.FromString, StringValue.SerializeToString)
    handlers = grpc.method_handlers_generic_handler(SERVICE, {"Ask": handler})
    await serve(
        config,
        service_names=[],
        add=[partial(_add, handlers)],
        health=Health((SERVICE,)),
        warm=warm,
        background=[background],
        drain=[partial(log.info, "hook")],
        close=[close],
    )


def _add(handlers: grpc.GenericRpcHandler, server: grpc.aio.Server) -> None:
    server.add_generic_rpc_handlers([handlers])


if __name__ == "__main__":
    run(main)
