"""A server with the real interceptor around handlers that a test writes, over a real socket."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.wrappers_pb2 import StringValue

from gannet_service.errors import GannetError, from_rpc_error
from gannet_service.interceptor import Admit, Authenticate, CheckRoom, ServerInterceptor

SERVICE = "test.Echo"


@dataclass(frozen=True, slots=True, kw_only=True)
class Echo:
    """A running server and a channel to it; `ask` is unary, `listen` streams replies, `talk` streams both ways."""

    interceptor: ServerInterceptor
    channel: grpc.aio.Channel

    @property
    def ask(self) -> Any:
        """The unary method."""
        return self.channel.unary_unary(f"/{SERVICE}/Ask", _write, StringValue.FromString)

    @property
    def listen(self) -> Any:
        """The server-streaming method."""
        return self.channel.unary_stream(f"/{SERVICE}/Listen", _write, StringValue.FromString)

    @property
    def talk(self) -> Any:
        """The bidirectional method."""
        return self.channel.stream_stream(f"/{SERVICE}/Talk", _write, StringValue.FromString)


def _write(message: StringValue | bytes) -> bytes:
    return message if isinstance(message, bytes) else message.SerializeToString()


@asynccontextmanager
async def running(
    *,
    ask: Callable[[str], Awaitable[str]] | None = None,
    listen: Callable[[str], AsyncIterator[str]] | None = None,
    talk: Callable[[AsyncIterator[StringValue]], AsyncIterator[str]] | None = None,
    deadline_default_s: float = 30.0,
    concurrent_rpcs_max: int = 8,
    concurrent_streams_max: int = 8,
    authenticate: Authenticate | None = None,
    admit: Admit | None = None,
    check_room: Mapping[str, CheckRoom] | None = None,
) -> AsyncIterator[Echo]:
    """Serve the handlers given until the block ends."""

    async def serve_ask(request: StringValue, _context: Any) -> StringValue:
        return StringValue(value=await ask(request.value))

    async def serve_listen(request: StringValue, _context: Any) -> AsyncIterator[StringValue]:
        async for value in listen(request.value):
            yield StringValue(value=value)

    async def serve_talk(requests: AsyncIterator[StringValue], _context: Any) -> AsyncIterator[StringValue]:
        async for value in talk(requests):
            yield StringValue(value=value)

    codec = {"request_deserializer": StringValue.FromString, "response_serializer": StringValue.SerializeToString}
    handlers = {
        "Ask": grpc.unary_unary_rpc_method_handler(serve_ask, **codec),
        "Listen": grpc.unary_stream_rpc_method_handler(serve_listen, **codec),
        "Talk": grpc.stream_stream_rpc_method_handler(serve_talk, **codec),
    }
    interceptor = ServerInterceptor(
        deadline_default_s=deadline_default_s,
        concurrent_rpcs_max=concurrent_rpcs_max,
        concurrent_streams_max=concurrent_streams_max,
        authenticate=authenticate,
        admit=admit,
        check_room=check_room,
    )
    server = grpc.aio.server(interceptors=[interceptor])
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            yield Echo(interceptor=interceptor, channel=channel)
        finally:
            await server.stop(None)


async def refusal(call: Awaitable[object]) -> GannetError:
    """The error that a call ends in."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error)
    raise AssertionError("the call was not refused")
