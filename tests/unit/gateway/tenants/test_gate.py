import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gannet_gateway.tenants import gate as gates
from gannet_gateway.tenants.gate import Gate
from gannet_service.errors import Overloaded


class Callers:
    """Calls at a gate; `admitted` are the tenants in the order in which their calls were let in."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.admitted: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def come(self, *tenants: str, weight: float = 1.0) -> None:
        """One call of each, as far as they get."""
        for tenant in tenants:
            self.tasks.append(asyncio.create_task(self._enter(tenant, weight)))
        await settled()

    async def leave(self, count: int) -> None:
        """So many calls end, one after the other."""
        for _ in range(count):
            self.gate.leave()
            await settled()

    async def _enter(self, tenant: str, weight: float) -> None:
        await self.gate.enter(tenant, weight)
        self.admitted.append(tenant)


async def settled() -> None:
    """Every task has gone as far as it can without another's help."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_free_places_are_given_at_once():
    """Up to the bound; then calls wait, and come in as others leave."""
    callers = Callers(Gate(in_work_max=2, waiting_max=8))
    await callers.come("a", "b", "c", "a")
    assert (callers.admitted, callers.gate.in_work, callers.gate.waiting) == (["a", "b"], 2, 2)
    await callers.leave(2)
    assert (callers.admitted, callers.gate.in_work, callers.gate.waiting) == (["a", "b", "c", "a"], 2, 0)
    await callers.leave(2)
    assert callers.gate.in_work == 0


async def test_tenant_that_floods_the_gate_waits_behind_itself():
    """Another's first call is next whatever waits before it, and from then on they take turns."""
    callers = Callers(Gate(in_work_max=1, waiting_max=100))
    await callers.come(*"a" * 50)
    await callers.come(*"bbb")
    await callers.leave(9)
    assert "".join(callers.admitted) == "abababaaaa"


async def test_turns_follow_the_weights():
    """A tenant of weight 3 begins three calls for one of another's, over any stretch of time."""
    callers = Callers(Gate(in_work_max=1, waiting_max=200))
    await callers.come("x")
    await callers.come(*"a" * 100, weight=3.0)
    await callers.come(*"b" * 100)
    await callers.leave(80)
    shares = Counter(callers.admitted[1:])
    assert abs(shares["a"] - 60) <= 1
    assert abs(Counter(callers.admitted[1:41])["a"] - 30) <= 1


async def test_tenant_that_was_away_saves_no_turns():
    """It is no further ahead than one that comes for the first time."""
    callers = Callers(Gate(in_work_max=1, waiting_max=100))
    await callers.come("b")
    await callers.leave(1)
    await callers.come(*"a" * 30)
    await callers.leave(20)
    await callers.come(*"bbbb")
    await callers.leave(8)
    assert "".join(callers.admitted[-8:]) == "babababa"


async def test_too_many_waiting_calls_of_a_tenant_are_refused():
    """Its own, and with the time after which to come again; others may still wait."""
    callers = Callers(Gate(in_work_max=1, waiting_max=2))
    await callers.come("a", "a", "a")
    with pytest.raises(Overloaded) as caught:
        await callers.gate.enter("a")
    assert (caught.value.reason, caught.value.retry_after_s) == ("TENANT_QUEUE_FULL", gates.RETRY_S)
    await callers.come("b")
    assert callers.gate.waiting == 3


async def test_call_that_gives_up_leaves_no_gap():
    """Neither one that waits, nor one that was given its place at that very moment."""
    callers = Callers(Gate(in_work_max=1, waiting_max=8))
    await callers.come("a", "b", "c")
    callers.tasks[1].cancel()
    await settled()
    assert callers.gate.waiting == 1
    callers.gate.leave()
    callers.tasks[2].cancel()
    await settled()
    assert (callers.gate.in_work, callers.gate.waiting, callers.admitted) == (0, 0, ["a"])


async def test_tenants_that_are_gone_are_forgotten(monkeypatch: pytest.MonkeyPatch):
    """However many have come by."""
    monkeypatch.setattr(gates, "REMEMBERED_MAX", 10)
    gate = Gate(in_work_max=1, waiting_max=8)
    for number in range(100):
        await gate.enter(f"t{number}")
        gate.leave()
    assert len(gate._lanes) <= 11


@given(st.lists(st.sampled_from(["a", "b", "c", "leave", "cancel"]), max_size=60), st.integers(1, 4))
async def test_gate_is_never_idle_nor_too_full(steps: list[str], in_work_max: int):
    """Whatever comes, leaves and gives up: places are taken while anybody waits, and no more than there are."""
    callers = Callers(Gate(in_work_max=in_work_max, waiting_max=100))
    gate = callers.gate
    for step in steps:
        if step == "leave":
            await callers.leave(min(1, gate.in_work))
        elif step == "cancel":
            waiting: list[Any] = [task for task in callers.tasks if not task.done()]
            for task in waiting[:1]:
                task.cancel()
            await settled()
        else:
            await callers.come(step)
        assert gate.in_work <= in_work_max
        assert gate.in_work == in_work_max or not gate.waiting
    await callers.leave(gate.in_work + gate.waiting)
    assert (gate.in_work, gate.waiting) == (0, 0)
