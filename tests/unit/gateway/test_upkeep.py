"""What a gateway does about those that are gone: crashes at every step, leases, waiting for stores."""

import asyncio
from functools import partial
from typing import Any

import pytest
from unit.gateway.conftest import Clock
from unit.gateway.fakes import COLLECTION, Crash, Failing, FakeIndex
from unit.gateway.ingestion import NAME, RECORD, Ingestion, MakeIngestion, State, state_of, upload

from gannet_gateway.documents import upkeep
from gannet_gateway.ledger.journal import Journal
from gannet_gateway.ledger.records import Purpose
from gannet_service.errors import DependencyUnavailable, NotFound

# Every step of a write, in order: the store and its method.
STEPS = [
    ("journal", "claim"),
    ("blobs", "put"),
    ("embedder", "passages"),
    ("index", "upsert"),
    ("journal", "begin_publish"),
    ("index", "stamp"),
    ("journal", "finish_publish"),
]
INTENT = STEPS.index(("journal", "begin_publish"))


class Victim:
    """A process that dies when it reaches a step: from then on no call of it has any effect, and none returns."""

    def __init__(self, step: tuple[str, str], *, after: bool) -> None:
        self._step, self._after = step, after
        self.died = asyncio.Event()

    def store(self, kind: str, real: Any) -> Any:
        """What the process sees of a store."""
        return _VictimsStore(self, kind, real)

    async def call(self, step: tuple[str, str], real: Any, *arguments: Any, **options: Any) -> Any:
        """One call of the process."""
        if self.died.is_set():
            await asyncio.Future()
        if step != self._step:
            return await real(*arguments, **options)
        if self._after:
            await real(*arguments, **options)
        self.died.set()
        return await asyncio.Future()


class _VictimsStore:
    def __init__(self, victim: Victim, kind: str, real: Any) -> None:
        self._victim, self._kind, self._real = victim, kind, real

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        return real if name == "vectors_of" else partial(self._victim.call, (self._kind, name), real)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step[1])
async def test_crash_at_any_step_is_finished_or_undone_at_the_next_start(
    step: tuple[str, str], when: str, make_ingestion: MakeIngestion, state: State, request: pytest.FixtureRequest
):
    """After the start there is one whole revision: the old one before the intent, the new one from then on."""
    await make_ingestion().ingester.index(RECORD, upload("Old."))
    victim = Victim(step, after=when == "after")
    kinds = ("ledger", "journal", "blobs", "embedder", "index")
    process = make_ingestion(**{kind: victim.store(kind, request.getfixturevalue(kind)) for kind in kinds})
    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(process.ingester.index(RECORD, upload("New.")))
        await victim.died.wait()
        await make_ingestion().upkeep.start()
        at = STEPS.index(step)
        intent = at > INTENT or (at == INTENT and when == "after")
        assert await state.read() == (state_of(b"Old.", b"New.") if intent else state_of(b"Old."))
        await process.publisher.close()
        writing.cancel()
        await asyncio.sleep(0)
        writing.cancel()  # the undo of a dead process waits for ever, too


async def test_crash_of_another_gateway_is_settled_when_its_lease_runs_out(
    make_ingestion: MakeIngestion, journal: Journal, clock: Clock, state: State
):
    """Not before; a gateway that shares its ledger must not take a living one's work for a dead one's."""
    await journal.claim(NAME, Purpose.WRITE)
    survivor = make_ingestion()
    await survivor.ingester.recover()
    assert (await state.read())["claims"] == ["a.md"]
    clock.now += 31
    await survivor.ingester.recover()
    assert await state.read() == state_of()


async def test_leases_of_work_are_renewed(
    ingestion: Ingestion, journal: Journal, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    """Three times within each lease, for as long as the work lasts; a ledger that is down for a moment ends nothing."""
    claim = await journal.claim(NAME, Purpose.WRITE)
    ingestion.ingester.holders.add(claim.holder)
    slept: list[float] = []
    failed = False

    async def sleep(seconds: float) -> None:
        nonlocal failed
        slept.append(seconds)
        clock.now += seconds
        if len(slept) == 12:
            raise Crash
        if len(slept) == 4 and not failed:
            failed = True
            monkeypatch.setattr(journal, "renew", fail)
        elif failed:
            monkeypatch.undo()
            monkeypatch.setattr(upkeep.asyncio, "sleep", sleep)

    async def fail(_holders: object) -> None:
        raise DependencyUnavailable("down")

    monkeypatch.setattr(upkeep.asyncio, "sleep", sleep)
    with pytest.raises(Crash):
        await ingestion.upkeep.renew()
    assert slept == [10] * 12
    assert await journal.expired_claims() == []


async def test_tidying_recovers_and_collects(ingestion: Ingestion, state: State, monkeypatch: pytest.MonkeyPatch):
    """What failed once is tried again; what ended is collected."""
    await ingestion.ingester.index(RECORD, upload("Old."))
    await ingestion.ingester.index(RECORD, upload("New."))
    rounds = 0

    async def sleep(_seconds: float) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 5:
            raise Crash

    monkeypatch.setattr(upkeep.asyncio, "sleep", sleep)
    ingestion.collector._index = Failing(
        ingestion.stores.index, "delete_below", DependencyUnavailable("down"), after=False
    )
    with pytest.raises(Crash):
        await ingestion.upkeep.tidy()
    assert (await state.read())["stored"] == {("a.md", 1), ("a.md", 2)}
    ingestion.collector._index = ingestion.stores.index
    rounds = 0
    with pytest.raises(Crash):
        await ingestion.upkeep.tidy()
    assert (await state.read())["stored"] == {("a.md", 2)}


@pytest.mark.parametrize("store, method", [("index", "delete_collection"), ("blobs", "delete_collection")])
async def test_delete_collection_that_fails_is_finished_later(
    store: str, method: str, make_ingestion: MakeIngestion, state: State, request: pytest.FixtureRequest
):
    """It is hidden at once and gone after `recover`, with all its documents."""
    stores = make_ingestion().stores
    await make_ingestion().ingester.index(RECORD, upload())
    failing = Failing(request.getfixturevalue(store), method, Crash(), after=False)
    with pytest.raises(Crash):
        await make_ingestion(**{store: failing}).ingester.delete_collection(COLLECTION)
    with pytest.raises(NotFound):
        await stores.ledger.collection(COLLECTION)
    await make_ingestion().ingester.recover()
    assert await stores.journal.collections_being_deleted() == []
    await stores.ledger.create_collection(RECORD)
    assert await state.read() == state_of()


async def test_start_waits_for_the_vector_store(
    ingestion: Ingestion, index: FakeIndex, monkeypatch: pytest.MonkeyPatch
):
    """A gateway that is up before its vector store becomes ready when the store does."""
    monkeypatch.setattr(upkeep, "START_PERIOD_S", 0.0)
    answers = iter([DependencyUnavailable("down"), DependencyUnavailable("down"), None])

    async def check_version() -> None:
        answer = next(answers)
        if answer is not None:
            raise answer

    index.check_version = check_version
    await ingestion.upkeep.start()
    assert next(answers, "asked three times") == "asked three times"
