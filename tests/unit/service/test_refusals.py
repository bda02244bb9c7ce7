"""Calls that find no room: refused before anything is done for them, and counted."""

import time
from collections.abc import Mapping

from google.protobuf.wrappers_pb2 import StringValue
from structlog.testing import capture_logs
from unit.service.echo import SERVICE, refusal, running

from gannet_service import errors, metrics
from gannet_service.call import Principal
from gannet_service.refusals import Refusals

ASK = StringValue(value="a")


async def echoed(value: str) -> str:
    """A handler."""
    return value


def full(request: StringValue, deadline: float) -> None:
    """What a server without room says to every request but "small"."""
    assert deadline > time.monotonic()
    if request.value != "small":
        raise errors.Overloaded("the queue is full", retry_after_s=0.25)


async def test_call_without_room_is_refused_before_anything_is_done_for_it():
    """The handler, the credentials and the bound know nothing of it; the caller is told when to come back."""
    reached: list[str] = []

    async def ask(value: str) -> str:
        reached.append(value)
        return value

    async def authenticate(_metadata: Mapping[str, str]) -> Principal:
        reached.append("authenticate")
        return Principal(tenant="acme", credential="k")

    async with running(ask=ask, authenticate=authenticate, check_room={f"/{SERVICE}/Ask": full}) as echo:
        refused = [await refusal(echo.ask(ASK)) for _ in range(3)]
        assert reached == []
        await echo.interceptor.idle()
        assert (await echo.ask(StringValue(value="small"))).value == "small"
    assert {(type(error), error.message, error.reason, error.retry_after_s) for error in refused} == {
        (errors.Overloaded, "the queue is full", "OVERLOADED", 0.25)
    }


async def test_call_without_room_that_cannot_be_decoded_is_told_that():
    """Only a request is asked whether there is room for it."""
    async with running(ask=echoed, check_room={f"/{SERVICE}/Ask": full}) as echo:
        assert (await refusal(echo.ask(b"\x0a\x7f"))).reason == "UNDECODABLE"


async def test_bug_in_a_check_of_room_hides_its_text():
    """It is answered and logged like a handler's."""

    def broken(_request: StringValue, _deadline: float) -> None:
        raise ValueError("password=hunter2")

    async with running(ask=echoed, check_room={f"/{SERVICE}/Ask": broken}) as echo:
        with capture_logs() as logs:
            refused = await refusal(echo.ask(ASK, metadata=(("x-request-id", "req-7"),)))
        await echo.interceptor.idle()
    assert (type(refused), refused.message) == (errors.InternalError, "internal error; quote request id req-7")
    assert [(entry["code"], repr(entry["exc_info"])) for entry in logs] == [
        ("INTERNAL", "ValueError('password=hunter2')")
    ]


async def test_refused_calls_share_a_log_line():
    """A line a method and reason says how many calls there were; what is said is not said again."""
    async with running(ask=echoed, check_room={f"/{SERVICE}/Ask": full}) as echo:
        with capture_logs() as logs:
            for _ in range(3):
                await refusal(echo.ask(ASK))
            echo.interceptor.drain()
            await refusal(echo.ask(ASK))
            assert logs == []
            echo.interceptor.refusals.write()
            echo.interceptor.refusals.write()
    assert [(entry["event"], entry["code"], entry["reason"], entry["calls"]) for entry in logs] == [
        ("refused", "RESOURCE_EXHAUSTED", "OVERLOADED", 3),
        ("refused", "UNAVAILABLE", "DRAINING", 1),
    ]


async def test_refused_calls_are_counted_by_method_and_reason():
    """The metric counts each of them once it is said."""
    counter = metrics.requests_refused.labels("/test/Counted", "OVERLOADED")
    before = counter._value.get()
    refusals = Refusals()
    for _ in range(4):
        refusals.count("/test/Counted", errors.Overloaded("full", retry_after_s=1.0))
    refusals.write()
    assert counter._value.get() - before == 4
