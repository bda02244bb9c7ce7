"""Streams answered in order: order, bounds, errors, leaving."""

import asyncio
from collections.abc import AsyncIterator, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gannet_service import call
from gannet_service.call import Call
from gannet_service.errors import NotReady
from gannet_service.streams import in_order


async def stream(requests: Iterable[int], read: list[int] | None = None) -> AsyncIterator[int]:
    """Requests as they are read; a negative one cannot be read."""
    for request in requests:
        if read is not None:
            read.append(request)
        if request < 0:
            raise ValueError(f"bad request {request}")
        yield request


class Gate:
    """Answers a request when it is told to."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.cancelled: list[int] = []
        self._open: dict[int, asyncio.Event] = {}

    def open(self, *requests: int) -> None:
        for request in requests:
            self._open.setdefault(request, asyncio.Event()).set()

    async def answer(self, request: int) -> int:
        self.started.append(request)
        try:
            await self._open.setdefault(request, asyncio.Event()).wait()
        except asyncio.CancelledError:
            self.cancelled.append(request)
            raise
        return 10 * request


@given(turns=st.lists(st.integers(0, 5), max_size=12), in_flight_max=st.integers(1, 5))
def test_in_order_of_answers_that_take_any_time_keeps_the_order(turns, in_flight_max):
    """Whatever order the answers are ready in, they come out in the order of the requests, no more at once than allowed."""
    in_work = most = 0

    async def answer(place: int) -> int:
        nonlocal in_work, most
        in_work += 1
        most = max(most, in_work)
        for _ in range(turns[place]):
            await asyncio.sleep(0)
        in_work -= 1
        return place

    async def collect() -> list[int]:
        return [answer async for answer in in_order(stream(range(len(turns))), answer, in_flight_max=in_flight_max)]

    assert asyncio.run(collect()) == [*range(len(turns))]
    assert most <= in_flight_max


async def test_in_order_reads_no_further_ahead_than_allowed():
    """While nothing is answered, so many requests are read and no more; each answer lets one more in."""
    gate, read = Gate(), []
    answers = in_order(stream(range(9), read), gate.answer, in_flight_max=3)
    first = asyncio.ensure_future(anext(answers))
    for _ in range(20):
        await asyncio.sleep(0)
    assert read == gate.started == [0, 1, 2]

    gate.open(0)
    assert await first == 0
    second = asyncio.ensure_future(anext(answers))
    for _ in range(20):
        await asyncio.sleep(0)
    assert read == gate.started == [0, 1, 2, 3]
    gate.open(1)
    assert await second == 10
    await answers.aclose()


async def test_in_order_answers_before_the_caller_has_said_everything():
    """An answer does not wait for the next request."""
    more: asyncio.Queue[int] = asyncio.Queue()

    async def requests() -> AsyncIterator[int]:
        while True:
            yield await more.get()

    gate = Gate()
    gate.open(1, 2)
    answers = in_order(requests(), gate.answer, in_flight_max=4)
    for request in (1, 2):
        more.put_nowait(request)
        assert await anext(answers) == 10 * request
    await answers.aclose()


async def test_in_order_when_closed_cancels_what_is_in_work():
    """A caller who leaves takes along what is being answered and what is being read."""
    gate = Gate()
    gate.open(0)
    answers = in_order(stream(range(3)), gate.answer, in_flight_max=3)
    assert await anext(answers) == 0
    before = asyncio.all_tasks()

    await answers.aclose()

    assert gate.cancelled == [request for request in gate.started if request]
    assert asyncio.all_tasks() <= before
    assert all(task.done() for task in before - {asyncio.current_task()})


async def test_in_order_error_of_an_answer_comes_after_the_answers_before_it():
    """What was asked before still comes; what was asked after does not."""

    async def answer(request: int) -> int:
        return 1 // (2 - request)

    answers = in_order(stream(range(5)), answer, in_flight_max=5)

    assert [await anext(answers), await anext(answers)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        await anext(answers)


async def test_in_order_request_that_cannot_be_read_takes_its_turn():
    """The answers to what came before are not lost."""
    gate = Gate()
    gate.open(1, 2)
    answers = in_order(stream([1, 2, -3]), gate.answer, in_flight_max=5)

    assert [await anext(answers), await anext(answers)] == [10, 20]
    with pytest.raises(ValueError, match="bad request -3"):
        await anext(answers)


async def test_in_order_when_the_server_leaves_answers_what_was_read_and_refuses_the_rest():
    """No answer that is due is lost, and nothing more is read."""
    draining: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    call.set_current(Call(method="/test/Talk", request_id="r", deadline=None, draining=draining))
    gate, read = Gate(), []
    answers = in_order(stream(range(9), read), gate.answer, in_flight_max=3)
    first = asyncio.ensure_future(anext(answers))
    for _ in range(20):
        await asyncio.sleep(0)

    draining.set_result(None)
    gate.open(0, 1, 2)

    assert [await first, await anext(answers), await anext(answers)] == [0, 10, 20]
    with pytest.raises(NotReady) as caught:
        await anext(answers)
    assert caught.value.reason == "DRAINING"
    assert read == [0, 1, 2]


async def test_in_order_when_the_server_leaves_wakes_a_stream_that_waits():
    """A caller who says nothing hears of it too; one who has said everything gets all answers and a good end."""
    for is_done in (False, True):
        draining: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        call.set_current(Call(method="/test/Talk", request_id="r", deadline=None, draining=draining))
        gate, said = Gate(), asyncio.Event()

        async def requests(said: asyncio.Event = said, *, is_done: bool = is_done) -> AsyncIterator[int]:
            yield 1
            if not is_done:
                await said.wait()

        gate.open(1)
        answers = in_order(requests(), gate.answer, in_flight_max=4)
        assert await anext(answers) == 10
        last = asyncio.ensure_future(anext(answers))
        for _ in range(20):
            await asyncio.sleep(0)
        draining.set_result(None)
        with pytest.raises(StopAsyncIteration if is_done else NotReady):
            await last
