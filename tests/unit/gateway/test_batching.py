"""Questions that share a call: who waits, for how long, and what becomes of each."""

import asyncio
from typing import Any

import pytest

from gannet_gateway.batching import SIZE_MAX, Batcher, Batching
from gannet_service import call
from gannet_service.call import Call

FOREVER_S = 3600.0


class Server:
    """Doubles numbers once it is let; one below zero has an error of its own."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.deadlines: list[float | None] = []
        self.cancelled = 0
        self.answers = asyncio.Event()
        self.left_out = 0
        self.down: Exception | None = None

    async def ask(self, kind: str, numbers: list[int]) -> list[int | Exception]:
        """The answers to one call."""
        del kind
        self.asked.append(numbers)
        self.deadlines.append(call.deadline_s())
        try:
            await self.answers.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.down is not None:
            raise self.down
        answers = [2 * one if one >= 0 else ValueError(one) for one in numbers]
        return answers[: len(answers) - self.left_out]


@pytest.fixture
def server() -> Server:
    """One that answers nothing yet."""
    return Server()


def batcher(server: Server, **limits: Any) -> Batcher[str, int, int]:
    """One call under way at a time, unless told otherwise."""
    return Batcher(server.ask, Batching(**{"in_flight": 1, "wait_s": FOREVER_S} | limits))


async def turn() -> None:
    """Let everything run that can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_question_that_comes_alone_leaves_at_once(server: Server):
    """It does not wait for company."""
    server.answers.set()
    assert await batcher(server).ask("a", 1) == 2
    assert server.asked == [[1]]


async def test_questions_that_come_meanwhile_leave_together(server: Server):
    """As the call that is under way returns, each with its own answer or error."""
    batches = batcher(server)
    asking = [asyncio.create_task(batches.ask("a", number)) for number in (1, 2, -3, 4)]
    await turn()
    assert server.asked == [[1]]
    server.answers.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert server.asked == [[1], [2, -3, 4]]
    assert [answers[0], answers[1], str(answers[2]), answers[3]] == [2, 4, "-3", 8]


async def test_questions_of_two_kinds_share_no_call(server: Server):
    """And do not wait for each other."""
    batches = batcher(server)
    asking = [asyncio.create_task(batches.ask(kind, 1)) for kind in "ab"]
    await turn()
    assert server.asked == [[1], [1]]
    server.answers.set()
    assert await asyncio.gather(*asking) == [2, 2]


async def test_question_waits_no_longer_than_the_limit_for_a_call_that_hangs(server: Server):
    """One server that hangs does not hold up what another one could answer."""
    batches = batcher(server, wait_s=0.0)
    asking = [asyncio.create_task(batches.ask("a", number)) for number in (1, 2, 3)]
    await turn()
    assert server.asked == [[1], [2, 3]]
    server.answers.set()
    assert await asyncio.gather(*asking) == [2, 4, 6]


async def test_batch_that_is_full_does_not_wait(server: Server):
    """What waits is bounded, and so is a call."""
    batches = batcher(server)
    asking = [asyncio.create_task(batches.ask("a", number)) for number in range(SIZE_MAX + 3)]
    await turn()
    assert [len(numbers) for numbers in server.asked] == [1, SIZE_MAX]
    server.answers.set()
    assert await asyncio.gather(*asking) == [2 * number for number in range(SIZE_MAX + 3)]


async def test_call_has_the_latest_deadline_of_those_who_wait(server: Server):
    """None of them is cut short; one without a deadline gives the call none."""
    batches = batcher(server)

    async def ask(deadline: float | None) -> int:
        call.set_current(Call(method="m", request_id="r", deadline=deadline))
        return await batches.ask("a", 1)

    rounds = [1e9], [1e9, 3e9, 2e9], [1e9, None]
    for deadlines in rounds:
        asking = [asyncio.create_task(ask(deadline)) for deadline in deadlines]
        await turn()
        if deadlines is not rounds[-1]:
            continue
        server.answers.set()
    await asyncio.gather(*asking)
    await turn()
    assert server.deadlines == [1e9, None]


async def test_call_is_cancelled_when_nobody_waits_any_more(server: Server):
    """And not before; those who left while they waited are not asked for at all."""
    batches = batcher(server, in_flight=2)
    first, *pair = [asyncio.create_task(batches.ask("a", number)) for number in (1, 2, 3, 4)]
    await turn()
    assert server.asked == [[1], [2]]
    pair[1].cancel()
    first.cancel()
    await turn()
    assert server.cancelled == 1
    assert server.asked == [[1], [2], [4]]
    server.answers.set()
    assert await asyncio.gather(pair[0], pair[2]) == [4, 8]


async def test_call_goes_on_while_one_waits(server: Server):
    """Who leaves takes only itself along."""
    batches = batcher(server)
    tasks = [asyncio.create_task(batches.ask("a", number)) for number in (1, 2, 3)]
    await turn()
    server.answers.set()
    await tasks[0]
    server.answers.clear()
    await turn()
    assert server.asked == [[1], [2, 3]]
    tasks[1].cancel()
    await turn()
    assert server.cancelled == 0
    server.answers.set()
    assert await tasks[2] == 6


@pytest.mark.parametrize("trouble", ["down", "short"])
async def test_call_that_fails_fails_for_everybody(server: Server, trouble: str):
    """Nobody is left waiting, and the next call is made."""
    if trouble == "down":
        server.down = OSError("down")
    else:
        server.left_out = 1
    batches = batcher(server)
    asking = [asyncio.create_task(batches.ask("a", number)) for number in (1, 2, 3)]
    await turn()
    server.answers.set()
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(one) for one in outcomes] == [OSError if trouble == "down" else ValueError] * 3
    server.down, server.left_out = None, 0
    assert await batches.ask("a", 5) == 10
