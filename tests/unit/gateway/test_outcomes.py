"""Waiting for operations: what is read, and when."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from unit.gateway.fakes import job_record

from gannet_gateway.documents.outcomes import Outcomes
from gannet_gateway.ledger.operations import Operation
from gannet_service.errors import DependencyUnavailable, NotFound

LONG_S = 60.0


class FakeOperations:
    """Operations by id, none done yet; notes which are read, and lets a test wait for a read."""

    def __init__(self, *ids: str) -> None:
        self.there = {each: Operation(id=each, jobs=(job_record(operation=each, ended_at_s=None),)) for each in ids}
        self.read: list[set[str]] = []
        self.failures: list[Exception] = []
        self._looked = asyncio.Condition()

    def end(self, operation: str) -> None:
        """It has ended."""
        jobs = self.there[operation].jobs
        self.there[operation] = replace(self.there[operation], jobs=tuple(replace(job, ended_at_s=2.0) for job in jobs))

    async def find(self, operations: Sequence[str]) -> list[Operation]:
        """As the real one."""
        async with self._looked:
            self.read.append(set(operations))
            self._looked.notify_all()
        if self.failures:
            raise self.failures.pop()
        return [self.there[each] for each in operations if each in self.there]

    async def reads(self, number: int) -> None:
        """Until there were so many."""
        async with self._looked:
            await self._looked.wait_for(lambda: len(self.read) >= number)


async def test_waiting_reads_what_ended_here_and_nothing_else():
    """Once when the wait begins, for it may have ended before; then when something of it ends: who else waits is not read for."""
    operations = FakeOperations("a", "b", "c")
    outcomes = Outcomes(operations, poll_s=LONG_S)  # type: ignore[arg-type]
    first, second = asyncio.ensure_future(outcomes.wait("a")), asyncio.ensure_future(outcomes.wait("b"))
    await operations.reads(1)
    operations.end("b")
    outcomes.ended("c")  # nobody waits for it
    outcomes.ended("b")
    assert (await second).id == "b"
    operations.end("a")
    outcomes.ended("a")
    assert (await first).id == "a"
    assert operations.read == [{"a", "b"}, {"b"}, {"a"}]


async def test_waiting_reads_everything_now_and_then():
    """What other gateways ended is found, and what could not be read is read again."""
    operations = FakeOperations("a", "b")
    operations.failures = [DependencyUnavailable("down")]
    outcomes = Outcomes(operations, poll_s=0.001)  # type: ignore[arg-type]
    first, second = asyncio.ensure_future(outcomes.wait("a")), asyncio.ensure_future(outcomes.wait("b"))
    await operations.reads(2)
    operations.end("b")
    assert (await second).id == "b"
    del operations.there["a"]
    with pytest.raises(NotFound):
        await first
