import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from types import SimpleNamespace

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from structlog.testing import capture_logs
from unit.service.echo import SERVICE, refusal, running

from gannet_service import call, clients, errors
from gannet_service.call import Principal
from gannet_service.interceptor import OVERLOAD_RETRY_S, ServerInterceptor

ASK = StringValue(value="a")


async def remaining(_value: str) -> str:
    """What is left of the caller's deadline, at most a day."""
    return str(call.remaining_s(86_400.0))


async def test_call_without_deadline_gets_the_default():
    """No call is unbounded."""
    async with running(ask=remaining, deadline_default_s=7.0) as echo:
        assert 0 < float((await echo.ask(ASK)).value) <= 7


async def test_call_with_deadline_keeps_it():
    """The caller's deadline counts, also where it is longer than the default."""
    async with running(ask=remaining, deadline_default_s=7.0) as echo:
        assert 7 < float((await echo.ask(ASK, timeout=100)).value) <= 102  # gRPC rounds up on the wire


async def test_deadline_over_two_hops_is_passed_on():
    """The second server sees what is left of the first one's deadline, not the caller's own limit."""
    async with running(ask=remaining) as second:

        async def forward(_value: str) -> str:
            return (await clients.unary(second.ask, ASK, name="second", timeout_s=1000)).value

        async with running(ask=forward) as first:
            assert 0 < float((await first.ask(ASK, timeout=20)).value) <= 22  # gRPC rounds up on the wire


async def test_handler_past_the_deadline_is_stopped():
    """The handler is cancelled, and the caller told."""
    stopped = asyncio.Event()

    async def hang(_value: str) -> str:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return ""

    async with running(ask=hang, deadline_default_s=0.05) as echo:
        refused = await refusal(echo.ask(ASK))
        assert (type(refused), refused.reason) == (errors.DeadlineTooShort, "DEADLINE_EXCEEDED")
        await stopped.wait()


async def test_stream_past_the_deadline_is_stopped():
    """What was sent stands; the stream ends with DEADLINE_EXCEEDED."""

    async def one_then_hang(value: str) -> AsyncIterator[str]:
        yield value
        await asyncio.Event().wait()

    async with running(listen=one_then_hang, deadline_default_s=0.1) as echo:
        stream = echo.listen(ASK)
        assert (await stream.read()).value == "a"
        assert isinstance(await refusal(stream.read()), errors.DeadlineTooShort)


async def test_call_over_the_bound_is_refused_with_retry_info():
    """A full server says when to come back, and serves again when a call has ended."""
    entered, release = asyncio.Event(), asyncio.Event()

    async def hold(value: str) -> str:
        entered.set()
        await release.wait()
        return value

    async with running(ask=hold, concurrent_rpcs_max=1, concurrent_streams_max=1) as echo:
        held = asyncio.ensure_future(echo.ask(ASK))
        await entered.wait()
        refused = await refusal(echo.ask(ASK))
        assert (type(refused), refused.retry_after_s) == (errors.Overloaded, OVERLOAD_RETRY_S)
        assert refused.message == "1 calls are in work already"
        release.set()
        assert (await held).value == "a"
        assert (await echo.ask(ASK)).value == "a"


async def test_open_streams_take_no_place_of_calls_and_have_a_bound_of_their_own():
    """Callers who keep a stream open do not shut out those who ask once."""
    opened = asyncio.Event()

    async def wait(requests: AsyncIterator[StringValue]) -> AsyncIterator[str]:
        opened.set()
        async for request in requests:
            yield request.value

    async with running(ask=remaining, talk=wait, concurrent_rpcs_max=1, concurrent_streams_max=1) as echo:
        held = echo.talk()
        await held.write(ASK)
        await opened.wait()
        assert await echo.ask(ASK)
        refused = await refusal(echo.talk().read())
        assert (type(refused), refused.message) == (errors.Overloaded, "1 streams are open already")
        await held.done_writing()
        assert [(await held.read()).value, await held.read()] == ["a", grpc.aio.EOF]
        again = echo.talk()
        await again.write(ASK)
        assert (await again.read()).value == "a"
        again.cancel()


async def test_drain_tells_open_streams():
    """A handler that waits for its caller learns that the server is going away."""

    async def until_draining(_requests: AsyncIterator[StringValue]) -> AsyncIterator[str]:
        yield "open"
        await call.draining()
        yield "draining"

    async with running(talk=until_draining) as echo:
        stream = echo.talk()
        assert (await stream.read()).value == "open"
        echo.interceptor.drain()
        echo.interceptor.drain()
        assert [(await stream.read()).value, await stream.read()] == ["draining", grpc.aio.EOF]
    await echo.interceptor.idle()


async def test_bug_in_a_handler_hides_its_text():
    """The caller gets an id to quote; the log has the id and the cause."""

    async def fail(_value: str) -> str:
        raise ValueError("password=hunter2")

    async with running(ask=fail) as echo:
        with capture_logs() as logs:
            refused = await refusal(echo.ask(ASK, metadata=(("x-request-id", "req-7"),)))
    assert isinstance(refused, errors.InternalError)
    assert refused.message == "internal error; quote request id req-7"
    (entry,) = logs
    assert (entry["code"], repr(entry["exc_info"])) == ("INTERNAL", "ValueError('password=hunter2')")


async def test_our_error_from_a_handler_keeps_its_details():
    """Type, text, field and reason reach the caller."""

    async def fail(_value: str) -> str:
        raise errors.InvalidInput("top_k: 0", field="top_k", reason="TOO_SMALL")

    async with running(ask=fail) as echo:
        refused = await refusal(echo.ask(ASK))
    assert (type(refused), refused.message, refused.field, refused.reason) == (
        errors.InvalidInput,
        "top_k: 0",
        "top_k",
        "TOO_SMALL",
    )


@pytest.mark.parametrize("given", ["", "x" * 129])
async def test_unusable_request_id_is_replaced(given: str):
    """Only 1 to 128 printable ASCII characters are taken over; else a fresh id is made."""

    async def request_id(_value: str) -> str:
        return call.current().request_id

    async with running(ask=request_id) as echo:
        first = (await echo.ask(ASK, metadata=(("x-request-id", given),))).value
        second = (await echo.ask(ASK, metadata=(("x-request-id", given),))).value
    assert len(first) == 32
    assert first not in (given, second)


async def test_ids_over_two_hops_are_equal():
    """Request id and trace id are the same in both servers."""

    async def ids(_value: str) -> str:
        return f"{call.current().request_id} {call.trace_id()}"

    async with running(ask=ids) as second:

        async def forward(value: str) -> str:
            return f"{await ids(value)} {(await clients.unary(second.ask, ASK, name='second', timeout_s=5)).value}"

        async with running(ask=forward) as first:
            given = ("x-request-id", "req-9"), ("traceparent", f"00-{'ab' * 16}-{'cd' * 8}-01")
            assert (await first.ask(ASK, metadata=given)).value.split() == ["req-9", "ab" * 16] * 2


async def test_cancelled_stream_closes_the_handler():
    """A client that leaves ends the handler's generator there and then."""
    closed = asyncio.Event()

    async def endless(value: str) -> AsyncIterator[str]:
        try:
            yield value
            await asyncio.Event().wait()
        finally:
            closed.set()

    async with running(listen=endless) as echo:
        stream = echo.listen(ASK)
        await stream.read()
        stream.cancel()
        await closed.wait()


async def test_draining_server_refuses_new_calls():
    """New calls are sent elsewhere; what is not ours, such as health, still answers."""
    async with running(ask=remaining) as echo:
        echo.interceptor.drain()
        refused = await refusal(echo.ask(ASK))
    assert (type(refused), refused.reason) == (errors.DependencyUnavailable, "DRAINING")
    assert refused.retry_after_s == errors.DRAINING_RETRY_S


async def test_undecodable_request_names_the_field():
    """Invalid UTF-8 in a string is the caller's mistake."""
    async with running(ask=remaining) as echo:
        refused = await refusal(echo.ask(b"\x0a\x02\xff\xfe"))
        assert (type(refused), refused.field, refused.reason) == (errors.InvalidInput, "value", "UNDECODABLE")
        assert refused.message == "value: not valid UTF-8"
        assert (await refusal(echo.ask(b"\x0a\x7f"))).reason == "UNDECODABLE"
        assert await echo.ask(ASK)


async def test_undecodable_message_of_a_stream_names_the_field():
    """Also in the middle of a request stream; replies before it stand."""

    async def repeat(requests: AsyncIterator[StringValue]) -> AsyncIterator[str]:
        async for request in requests:
            yield request.value

    async with running(talk=repeat) as echo:
        stream = echo.talk()
        await stream.write(ASK)
        assert (await stream.read()).value == "a"
        await stream.write(b"\x0a\x01\xff")
        refused = await refusal(stream.read())
    assert (type(refused), refused.field) == (errors.InvalidInput, "value")


async def test_refused_credentials_free_their_place():
    """An unauthenticated call takes no room and reaches no handler."""

    async def authenticate(metadata: Mapping[str, str]) -> Principal:
        if metadata.get("authorization") != "Bearer k":
            raise errors.Unauthenticated("no key")
        return Principal(tenant="acme", credential="k")

    async def tenant(_value: str) -> str:
        return call.principal().tenant

    async with running(ask=tenant, concurrent_rpcs_max=1, authenticate=authenticate) as echo:
        for _ in range(3):
            assert isinstance(await refusal(echo.ask(ASK)), errors.Unauthenticated)
        assert (await echo.ask(ASK, metadata=(("authorization", "Bearer k"),))).value == "acme"


async def test_call_that_is_not_admitted_reaches_no_handler():
    """Whoever decides is told the method and the caller; what it gave back runs once, when the call has ended."""
    left: list[str] = []

    async def authenticate(metadata: Mapping[str, str]) -> Principal:
        return Principal(tenant=metadata["tenant"], credential="k")

    async def admit(method: str, principal: Principal) -> Callable[[], None]:
        assert method == f"/{SERVICE}/Ask"
        if principal.tenant != "acme":
            raise errors.PermissionDenied("not you")
        return lambda: left.append(principal.tenant)

    async def fail(value: str) -> str:
        assert left == ["acme"] * len(left)
        if value == "b":
            raise errors.NotFound("gone")
        return value

    async with running(ask=fail, authenticate=authenticate, admit=admit) as echo:
        assert isinstance(await refusal(echo.ask(ASK, metadata=(("tenant", "other"),))), errors.PermissionDenied)
        assert left == []
        assert (await echo.ask(ASK, metadata=(("tenant", "acme"),))).value == "a"
        assert isinstance(
            await refusal(echo.ask(StringValue(value="b"), metadata=(("tenant", "acme"),))), errors.NotFound
        )
        assert left == ["acme", "acme"]


async def test_unknown_method_is_unimplemented():
    """The interceptor leaves methods that do not exist to gRPC."""
    async with running() as echo:
        unknown = echo.channel.unary_unary(f"/{SERVICE}/Nothing")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await unknown(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_served_call_is_logged_once():
    """One line a call, with method, code and the number of messages sent."""

    async def three(_value: str) -> AsyncIterator[str]:
        for value in "abc":
            yield value

    async with running(listen=three) as echo:
        with capture_logs() as logs:
            assert [reply.value async for reply in echo.listen(ASK)] == ["a", "b", "c"]
    (entry,) = logs
    assert (entry["method"], entry["code"], entry["messages"]) == (f"/{SERVICE}/Listen", "OK", 3)


async def test_remaining_of_an_expired_call_is_refused():
    """Nothing is begun that cannot finish."""
    call.set_current(call.Call(method="m", request_id="r", deadline=time.monotonic() - 1))
    with pytest.raises(errors.DeadlineTooShort):
        call.remaining_s(5)


async def test_reply_is_returned_before_its_log_line_is_written():
    """The caller does not wait for the server's bookkeeping, which follows in the next turn of the loop."""

    async def answer(_request: object, _context: object) -> str:
        return "reply"

    class Context:
        def time_remaining(self) -> float:
            return 60.0

        def invocation_metadata(self) -> tuple[()]:
            return ()

    interceptor = ServerInterceptor(deadline_default_s=7.0, concurrent_rpcs_max=1, concurrent_streams_max=1)
    serve = interceptor._unary(grpc.unary_unary_rpc_method_handler(answer), "/echo/Ask")
    with capture_logs() as lines:
        assert await serve(ASK, Context()) == "reply"
        assert lines == []
        await asyncio.sleep(0)
    assert [line["code"] for line in lines] == ["OK"]


async def test_reply_of_bytes_goes_out_as_it_is():
    """A handler that has its reply's bytes already need not make a message of them."""

    async def answer(_request: object, _context: object) -> bytes:
        return StringValue(value="cached").SerializeToString()

    async def found(_details: object) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(answer, response_serializer=StringValue.SerializeToString)

    interceptor = ServerInterceptor(deadline_default_s=7.0, concurrent_rpcs_max=1, concurrent_streams_max=1)
    handler = await interceptor.intercept_service(found, SimpleNamespace(method="/echo/Ask"))
    replies = (StringValue(value="cached"), StringValue(value="cached").SerializeToString())
    assert [StringValue.FromString(handler.response_serializer(reply)).value for reply in replies] == ["cached"] * 2


async def test_handler_is_wrapped_once_and_unknown_methods_never():
    """The second call of a method finds its handler ready; a name that does not exist takes no memory."""
    asked: list[str] = []

    async def find(details: object) -> grpc.RpcMethodHandler | None:
        asked.append(details.method)
        return None if details.method == "/echo/None" else grpc.unary_unary_rpc_method_handler(find)

    interceptor = ServerInterceptor(deadline_default_s=7.0, concurrent_rpcs_max=1, concurrent_streams_max=1)
    for method in ("/echo/Ask", "/echo/Ask", "/echo/None", "/echo/None"):
        await interceptor.intercept_service(find, SimpleNamespace(method=method))
    assert asked == ["/echo/Ask", "/echo/None", "/echo/None"]
