"""Answers that outlive their stream, with and without a Redis in between."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gannet_gateway.answers import log as logs
from gannet_gateway.answers.log import AnswerKey
from gannet_gateway.answers.resume import Keeping, ResumableAnswers
from gannet_gateway.answers.shared_log import SharedLog
from gannet_service.errors import (
    DependencyUnavailable,
    GannetError,
    InternalError,
    InvalidInput,
    NotFound,
    NotReady,
    Overloaded,
)

KEY = AnswerKey(tenant="acme", owner="user:ann", answer_id="a" * 32)
LONG_S = 1e6


class Tier:
    """Redis' lists, in memory; while `down` it refuses."""

    def __init__(self) -> None:
        self.lists: dict[bytes, list[bytes]] = {}
        self.down = False

    async def append(self, key: bytes, value: bytes, *, ttl_s: float) -> bool:
        """As the real one."""
        assert ttl_s > 0
        if not self.down:
            self.lists.setdefault(key, []).append(value)
        return not self.down

    async def read_list(self, key: bytes, start: int) -> list[bytes] | None:
        """As the real one."""
        return None if self.down else self.lists.get(key, [])[start:]


class Steps:
    """An answer that goes on when a test says so, and then ends as it is told."""

    def __init__(self, count: int, error: Exception | None = None) -> None:
        self.count = count
        self.error = error
        self.made = 0
        self.closed = asyncio.Event()
        self._permits = asyncio.Semaphore(0)

    def go(self, steps: int = 1) -> None:
        """Let it make so many steps."""
        for _ in range(steps):
            self._permits.release()

    async def events(self) -> AsyncGenerator[bytes]:
        """The answer."""
        try:
            for place in range(self.count):
                await self._permits.acquire()
                self.made += 1
                yield b"%d" % place
            if self.error is not None:
                raise self.error
        finally:
            self.closed.set()


def answers(
    *, shared: SharedLog | None = None, clock: Callable[[], float] = lambda: 0.0, **keeping: Any
) -> ResumableAnswers:
    """Answers that are kept, for long unless a test says otherwise."""
    defaults = {"grace_s": LONG_S, "keep_s": LONG_S, "answers_max": 8, "bytes_max": 1 << 20}
    return ResumableAnswers(Keeping(**{**defaults, **keeping}), shared, clock=clock)


def shared_log(tier: Tier, **settings: Any) -> SharedLog:
    """A log in `tier`."""
    defaults = {"keep_s": LONG_S, "attended_s": LONG_S, "silence_max_s": LONG_S, "poll_s": 0.0}
    return SharedLog(tier, **{**defaults, **settings})


async def read(stream: AsyncGenerator[bytes], take: int | None = None) -> tuple[list[bytes], GannetError | None]:
    """What comes, `take` events at most, and the error at the end."""
    seen: list[bytes] = []
    try:
        async with contextlib.aclosing(stream):
            async for event in stream:
                seen.append(event)
                if len(seen) == take:
                    break
    except GannetError as error:
        return seen, error
    return seen, None


@given(
    count=st.integers(0, 6),
    left_after=st.integers(0, 6),
    resumed=st.lists(st.integers(0, 6), max_size=3),
    error=st.sampled_from([None, DependencyUnavailable("gone"), Overloaded("full")]),
    elsewhere=st.booleans(),
)
def test_resumed_answer_is_exactly_what_is_missing(
    *, count: int, left_after: int, resumed: list[int], error: GannetError | None, elsewhere: bool
):
    """Wherever the client left and from wherever it goes on, here or at another gateway: the same events, once, and the same end."""

    async def run() -> None:
        tier = Tier()
        first = answers(shared=shared_log(tier))
        other = answers(shared=shared_log(tier)) if elsewhere else first
        steps = Steps(count, error)
        steps.go(count)
        whole = [b"%d" % place for place in range(count)]
        seen, _ = await read(first.begin(KEY, steps.events()), left_after or None)
        assert seen == whole[: left_after or None]
        await steps.closed.wait()
        await asyncio.wait([first._kept[KEY].task])
        for seq in resumed:
            seen, raised = await read(other.resume(KEY, seq))
            if seq > count:
                assert isinstance(raised, InvalidInput)
                continue
            assert seen == whole[seq:]
            assert (type(raised), str(raised)) == (type(error), str(error))
        assert steps.made == count
        await first.close()

    asyncio.run(run())


async def test_resume_while_the_answer_is_made_gets_the_rest_as_it_comes():
    """The second stream waits for the same generation; nothing is made twice."""
    kept, steps = answers(), Steps(4)
    steps.go(2)
    assert await read(kept.begin(KEY, steps.events()), 2) == ([b"0", b"1"], None)
    second = kept.resume(KEY, 2)
    coming = asyncio.create_task(read(second))
    steps.go(2)
    assert await coming == ([b"2", b"3"], None)
    assert steps.made == 4


@pytest.mark.parametrize("field, value", [("tenant", "other"), ("owner", ""), ("answer_id", "b" * 32)])
@pytest.mark.parametrize("elsewhere", [False, True])
async def test_resume_of_somebody_elses_answer_is_not_found(field: str, value: str, *, elsewhere: bool):
    """Another tenant, another user, another answer: it does not exist, at any gateway."""
    tier, steps = Tier(), Steps(1)
    kept = answers(shared=shared_log(tier))
    steps.go()
    await read(kept.begin(KEY, steps.events()))
    asked = AnswerKey(**{"tenant": KEY.tenant, "owner": KEY.owner, "answer_id": KEY.answer_id, field: value})
    reader = answers(shared=shared_log(tier)) if elsewhere else kept
    _, error = await read(reader.resume(asked, 0))
    assert (type(error), error.reason) == (NotFound, "ANSWER_GONE")


async def test_answer_that_nobody_reads_is_given_up_after_its_grace():
    """The generator is stopped; who comes back later learns that it was."""
    kept, steps = answers(grace_s=0.0), Steps(3)
    steps.go()
    assert await read(kept.begin(KEY, steps.events()), 1) == ([b"0"], None)
    await steps.closed.wait()
    await asyncio.wait([kept._kept[KEY].task])
    seen, error = await read(kept.resume(KEY, 0))
    assert (seen, type(error), error.reason) == ([b"0"], NotReady, "ANSWER_GIVEN_UP")
    assert steps.made == 1


async def test_answer_that_another_gateway_reads_is_not_given_up():
    """The reader's mark in Redis keeps the generator going."""
    tier = Tier()
    first, other = answers(shared=shared_log(tier), grace_s=0.0), answers(shared=shared_log(tier))
    steps = Steps(3)
    steps.go()
    begun = first.begin(KEY, steps.events())
    await anext(begun)
    remote = other.resume(KEY, 0)
    assert await anext(remote) == b"0"
    await begun.aclose()
    for _ in range(20):
        await asyncio.sleep(0)
    steps.go(2)
    assert await read(remote) == ([b"1", b"2"], None)
    await first.close()


async def test_answer_whose_gateway_is_gone_is_lost_and_says_so():
    """After its silence the reader elsewhere stops waiting."""
    tier, now = Tier(), [0.0]
    first, steps = answers(shared=shared_log(tier)), Steps(2)
    steps.go()
    await read(first.begin(KEY, steps.events()), 1)

    def clock() -> float:
        now[0] += 1.0
        return now[0]

    other = answers(shared=shared_log(tier, silence_max_s=5.0, clock=clock))
    seen, error = await read(other.resume(KEY, 0))
    assert (seen, type(error), error.reason) == ([b"0"], DependencyUnavailable, "ANSWER_LOST")
    await first.close()


async def test_redis_that_fails_in_the_middle_changes_nothing_here():
    """The stream goes on; the copy ends where Redis did, without a hole."""
    tier, steps = Tier(), Steps(3)
    kept = answers(shared=shared_log(tier))
    begun = kept.begin(KEY, steps.events())
    steps.go()
    assert await anext(begun) == b"0"
    tier.down = True
    steps.go()
    assert await anext(begun) == b"1"
    await asyncio.sleep(0)
    tier.down = False
    steps.go()
    assert await read(begun) == ([b"2"], None)
    assert [entry for entries in tier.lists.values() for entry in entries] == [b"e0"]


async def test_answers_that_ended_make_room_and_those_in_work_do_not():
    """The oldest that ended goes first; with none left the next is refused, and told when to come back."""
    kept = answers(answers_max=2)
    keys = [AnswerKey(tenant="acme", owner="", answer_id=f"{place:032x}") for place in range(4)]
    steps = [Steps(1) for _ in keys]
    steps[0].go()
    await read(kept.begin(keys[0], steps[0].events()))
    working = [kept.begin(key, step.events()) for key, step in zip(keys[1:3], steps[1:3], strict=True)]
    reading = [asyncio.create_task(read(stream)) for stream in working]
    for _ in range(5):
        await asyncio.sleep(0)
    _, gone = await read(kept.resume(keys[0], 0))
    assert isinstance(gone, NotFound)
    _, refused = await read(kept.begin(keys[3], steps[3].events()))
    assert (type(refused), refused.reason, refused.retry_after_s) == (Overloaded, "RESUMABLE_MAX", 1.0)
    for step in steps[1:3]:
        step.go()
    assert await asyncio.gather(*reading) == [([b"0"], None)] * 2


async def test_answer_is_forgotten_when_its_time_has_passed():
    """`keep_s` after its end, by the clock."""
    now = [0.0]
    kept, steps = answers(keep_s=5.0, clock=lambda: now[0]), Steps(1)
    steps.go()
    await read(kept.begin(KEY, steps.events()))
    await asyncio.wait([kept._kept[KEY].task])
    now[0] = 5.0
    assert (await read(kept.resume(KEY, 0)))[0] == [b"0"]
    now[0] = 5.1
    assert isinstance((await read(kept.resume(KEY, 0)))[1], NotFound)


async def test_answer_longer_than_its_log_ends_in_an_error(monkeypatch: pytest.MonkeyPatch):
    """Bounded in events; what was said before stands."""
    monkeypatch.setattr(logs, "EVENTS_MAX", 2)
    kept, steps = answers(), Steps(3)
    steps.go(3)
    seen, error = await read(kept.begin(KEY, steps.events()))
    assert (seen, type(error), error.reason) == ([b"0", b"1"], Overloaded, "ANSWER_TOO_LONG")


async def test_bug_in_an_answer_ends_it_without_its_text():
    """Every reader is told; nobody waits for ever."""
    kept, steps = answers(), Steps(1, RuntimeError("secret"))
    steps.go()
    seen, error = await read(kept.begin(KEY, steps.events()))
    assert (seen, type(error)) == ([b"0"], InternalError)
    assert "secret" not in error.message


async def test_closing_gives_up_what_is_in_work():
    """Nothing is left behind; a reader learns that the server goes."""
    kept, steps = answers(), Steps(2)
    steps.go()
    begun = kept.begin(KEY, steps.events())
    assert await anext(begun) == b"0"
    await kept.close()
    seen, error = await read(begun)
    assert (seen, type(error)) == ([], NotReady)
    assert steps.closed.is_set()
