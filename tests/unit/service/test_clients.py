import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from google.protobuf.wrappers_pb2 import StringValue
from unit.service.echo import SERVICE, running
from unit.service.test_errors import KINDS, SEEN_AS

from gannet_service import call, clients
from gannet_service.errors import DeadlineTooShort, DependencyUnavailable, GannetError, InternalError, Overloaded

ASK = StringValue(value="a")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not InternalError])
async def test_unary_refused_by_the_server_raises_its_error(kind: type[GannetError]):
    """What the server raised is what the caller catches, but for types that share a status."""

    async def fail(_value: str) -> str:
        raise kind("why", field="f", reason="R", retry_after_s=1.5)

    async with running(ask=fail) as echo:
        with pytest.raises(SEEN_AS.get(kind, kind)) as caught:
            await clients.unary(echo.ask, ASK, name="echo", timeout_s=5)
    raised = caught.value
    assert (raised.message, raised.field, raised.reason, raised.retry_after_s) == ("why", "f", "R", 1.5)


async def test_unary_to_nobody_raises_unavailable():
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        async with clients.open_channel(f"127.0.0.1:{probe.getsockname()[1]}") as channel:
            ask = channel.unary_unary(f"/{SERVICE}/Ask", StringValue.SerializeToString, StringValue.FromString)
            with pytest.raises(DependencyUnavailable):
                await clients.unary(ask, ASK, name="nobody", timeout_s=5)


async def test_unary_longer_than_its_timeout_raises_deadline():
    """The timeout holds without any caller's deadline."""

    async def hang(_value: str) -> str:
        await asyncio.Event().wait()
        return ""

    async with running(ask=hang) as echo:
        with pytest.raises(DeadlineTooShort):
            await clients.unary(echo.ask, ASK, name="echo", timeout_s=0.05)


async def test_unary_after_the_deadline_makes_no_call():
    """What cannot finish is not begun."""
    reached = False

    async def note(_value: str) -> str:
        nonlocal reached
        reached = True
        return ""

    async with running(ask=note) as echo:
        call.set_current(call.Call(method="m", request_id="r", deadline=time.monotonic() - 1))
        with pytest.raises(DeadlineTooShort):
            await clients.unary(echo.ask, ASK, name="echo", timeout_s=5)
    assert not reached


async def test_cancelled_unary_cancels_the_handler():
    """Cancellation crosses the wire."""
    entered, stopped = asyncio.Event(), asyncio.Event()

    async def hang(_value: str) -> str:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return ""

    async with running(ask=hang) as echo:
        asking = asyncio.ensure_future(clients.unary(echo.ask, ASK, name="echo", timeout_s=30))
        await entered.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await stopped.wait()


async def test_stream_yields_every_message():
    """In order, to the end."""

    async def letters(value: str) -> AsyncIterator[str]:
        for letter in value:
            yield letter

    async with running(listen=letters) as echo:
        replies = clients.stream(echo.listen, StringValue(value="abc"), name="echo", timeout_s=5)
        assert [reply.value async for reply in replies] == ["a", "b", "c"]


async def test_stream_that_fails_raises_after_its_messages():
    """Messages before the error arrive."""

    async def one_then_fail(value: str) -> AsyncIterator[str]:
        yield value
        raise Overloaded("full", retry_after_s=0.5)

    async with running(listen=one_then_fail) as echo:
        replies = clients.stream(echo.listen, ASK, name="echo", timeout_s=5)
        assert (await anext(replies)).value == "a"
        with pytest.raises(Overloaded, match="full"):
            await anext(replies)


async def test_closed_stream_stops_the_server():
    """Closing the iterator cancels the call: the handler ends."""
    stopped = asyncio.Event()

    async def endless(value: str) -> AsyncIterator[str]:
        try:
            while True:
                yield value
        finally:
            stopped.set()

    async with running(listen=endless) as echo:
        async with aclosing(clients.stream(echo.listen, ASK, name="echo", timeout_s=30)) as replies:
            await anext(replies)
        await stopped.wait()
