import asyncio
import random
import time

import pytest

from gannet_gateway.cache.flight import SingleFlight
from gannet_service import call
from gannet_service.call import Call
from gannet_service.errors import DeadlineTooShort, DependencyUnavailable

KEY = b"key"


class Work:
    """A computation that ends when it is told to, and counts."""

    def __init__(self) -> None:
        self.began = 0
        self.cancelled = 0
        self.gate = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> int:
        self.began += 1
        mine = self.began
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error:
            raise self.error
        return mine


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


def with_deadline(seconds: float) -> None:
    """The calling task works for an RPC with that much time left."""
    call.set_current(Call(method="m", request_id="r", deadline=time.monotonic() + seconds))


async def test_flight_one_computation_serves_all_who_wait():
    """Fifty callers, one computation; the next caller after it begins another."""
    flight, work = SingleFlight[int](), Work()
    tasks = [asyncio.ensure_future(flight.run(KEY, work)) for _ in range(50)]
    await settle()
    work.gate.set()
    assert await asyncio.gather(*tasks) == [1] * 50
    assert await flight.run(KEY, work) == 2


async def test_flight_keys_do_not_wait_for_each_other():
    """Another key is another computation."""
    flight, work, other = SingleFlight[int](), Work(), Work()
    other.gate.set()
    blocked = asyncio.ensure_future(flight.run(KEY, work))
    assert await flight.run(b"other", other) == 1
    work.gate.set()
    assert await blocked == 1


async def test_flight_goes_on_without_the_caller_who_began_it():
    """A leader who leaves takes nobody along; the last to leave ends the computation."""
    flight, work = SingleFlight[int](), Work()
    leader, follower = (asyncio.ensure_future(flight.run(KEY, work)) for _ in range(2))
    await settle()
    leader.cancel()
    await settle()
    assert work.cancelled == 0
    work.gate.set()
    assert await follower == 1
    assert leader.cancelled()


async def test_flight_that_nobody_waits_for_is_cancelled_and_not_joined():
    """Whoever comes while it is being cancelled gets a computation of their own, not a cancellation."""
    flight, work = SingleFlight[int](), Work()
    leader = asyncio.ensure_future(flight.run(KEY, work))
    await settle()
    leader.cancel()
    newcomer = asyncio.ensure_future(flight.run(KEY, work))
    await settle()
    work.gate.set()
    assert await newcomer == 2
    assert work.cancelled == 1


async def test_flight_error_reaches_all_and_is_not_kept():
    """Everybody who waited is told; the next caller tries again."""
    flight, work = SingleFlight[int](), Work()
    work.error = DependencyUnavailable("down")
    tasks = [asyncio.ensure_future(flight.run(KEY, work)) for _ in range(3)]
    await settle()
    work.gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results == [work.error] * 3
    work.error = None
    assert await flight.run(KEY, work) == 2


async def test_flight_waiter_keeps_their_own_deadline():
    """A follower whose time is up is told so; the others go on."""
    flight, work = SingleFlight[int](), Work()
    leader = asyncio.ensure_future(flight.run(KEY, work))
    await settle()
    with_deadline(-0.001)
    with pytest.raises(DeadlineTooShort):
        await flight.run(KEY, work)
    work.gate.set()
    assert await leader == 1


async def test_flight_with_much_less_time_is_not_joined():
    """A caller with an hour does not hang on the computation of one with a minute, whose degraded outcome would become theirs."""
    flight, work = SingleFlight[int](), Work()

    async def caller(seconds: float) -> int:
        with_deadline(seconds)
        return await flight.run(KEY, work)

    first = asyncio.ensure_future(caller(60))
    await settle()
    joins, begins = asyncio.ensure_future(caller(100)), asyncio.ensure_future(caller(3600))
    await settle()
    assert work.began == 2
    work.gate.set()
    assert await asyncio.gather(first, joins, begins) == [1, 1, 2]


async def test_flight_out_of_its_leaders_time_is_begun_again_by_who_has_some():
    """A deadline that was the leader's alone is not everybody's."""
    flight = SingleFlight[int]()
    gate = asyncio.Event()
    began = 0

    async def work() -> int:
        nonlocal began
        began += 1
        await gate.wait()
        if began == 1:
            raise DeadlineTooShort("of the leader")
        return began

    async def caller(seconds: float) -> int:
        with_deadline(seconds)
        return await flight.run(KEY, work)

    leader = asyncio.ensure_future(caller(60))
    await settle()
    follower = asyncio.ensure_future(caller(100))
    await settle()
    gate.set()
    results = await asyncio.gather(leader, follower, return_exceptions=True)
    assert began == 2
    assert 2 in results


@pytest.mark.parametrize("seed", range(100))
async def test_flight_under_random_cancellation_serves_everybody_who_stays(seed: int):
    """Callers come and go in any order: who stays has a value, and nothing is left behind."""
    rng = random.Random(seed)  # noqa: S311 - a reproducible order
    flight, work = SingleFlight[int](), Work()
    staying: list[asyncio.Task[int]] = []
    for _ in range(60):
        task = asyncio.ensure_future(flight.run(rng.choice([b"a", b"b"]), work))
        staying.append(task)
        for _ in range(rng.randrange(4)):
            await asyncio.sleep(0)
        if rng.random() < 0.5:
            staying.pop(rng.randrange(len(staying))).cancel()
        if rng.random() < 0.1:
            work.gate.set()
            await settle()
            work.gate.clear()
    work.gate.set()
    assert all(isinstance(value, int) for value in await asyncio.gather(*staying))
    await settle()
    assert not flight._flights
