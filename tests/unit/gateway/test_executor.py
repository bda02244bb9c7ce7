"""Accepted documents worked on, by executors over a real ledger, journal and blobs."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from unit.gateway.conftest import Clock
from unit.gateway.fakes import COLLECTION, Failing, FakeEmbedder, FakeIndex
from unit.gateway.ingestion import MakeIngestion, State, content_of, state_of, upload

from gannet_gateway.blobs.blobs import Blobs
from gannet_gateway.blobs.uploads import IncomingUpload, StoredUpload
from gannet_gateway.cache.reader import CollectionReader
from gannet_gateway.documents.acceptance import Acceptor
from gannet_gateway.documents.executor import Executor, JobLimits
from gannet_gateway.documents.outcomes import Outcomes
from gannet_gateway.documents.sweeper import Sweeper
from gannet_gateway.ledger.engine import Database
from gannet_gateway.ledger.job import Job, JobState
from gannet_gateway.ledger.jobs import Jobs
from gannet_gateway.ledger.ledger import Ledger
from gannet_gateway.ledger.operations import Operation, Operations
from gannet_gateway.ledger.schema import jobs as job_rows
from gannet_gateway.names import OperationName
from gannet_gateway.parsing.parser import Held as InMemory
from gannet_service.errors import Conflict, DependencyUnavailable, InvalidInput, NotReady

ATTEMPTS_MAX = 3


class Gateway:
    """The part of a gateway that accepts documents and works on them."""

    def __init__(self, ingestion: Any, database: Database, clock: Clock, *, in_work_max: int, pause_s: float) -> None:
        self.ingestion = ingestion
        stores = ingestion.stores
        self.jobs = Jobs(database, lease_s=30, queued_max=100, request_ids_s=100, clock=clock)
        self.operations = Operations(database, clock=clock)
        self.outcomes = Outcomes(self.operations, poll_s=0.01)
        limits = JobLimits(
            in_work_max=in_work_max,
            bytes_max=1 << 20,
            attempts_max=ATTEMPTS_MAX,
            pause_initial_s=pause_s,
            pause_max_s=2 * pause_s,
            poll_s=0.01,
            lease_s=0.06,  # renews every 10 ms
        )
        self.executor = Executor(
            self.jobs,
            ingestion.ingester,
            reader=CollectionReader(stores.ledger.collection_settings),
            blobs=stores.blobs,
            outcomes=self.outcomes,
            sweeper=Sweeper(self.operations, stores.blobs, kept_s=1000),
            limits=limits,
        )
        self.acceptor = Acceptor(self.jobs, stores.blobs, self.executor, self.outcomes)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to claim."""
        self._task = asyncio.create_task(self.executor.run())

    async def stop(self) -> None:
        """As a server does."""
        self.executor.drain()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self.executor.close()
        await self.ingestion.publisher.close()

    async def job(self, name: OperationName) -> Job:
        """The one job of an operation, as it is."""
        return (await self.operations.get(name.tenant, name.operation)).jobs[0]

    async def ended(self, name: OperationName) -> Job:
        """The one job of an operation, once it has ended."""
        operation: Operation = await self.outcomes.wait(name.operation)
        return operation.jobs[0]


MakeGateway = Callable[..., Gateway]


@pytest.fixture
async def make_gateway(make_ingestion: MakeIngestion, database: Database, clock: Clock) -> AsyncIterator[MakeGateway]:
    """Makes gateways over the test's stores, or those given by name; they are stopped at the end."""
    made: list[Gateway] = []

    def make(*, in_work_max: int = 8, pause_s: float = 0.001, **replaced: Any) -> Gateway:
        made.append(Gateway(make_ingestion(**replaced), database, clock, in_work_max=in_work_max, pause_s=pause_s))
        return made[-1]

    yield make
    for gateway in made:
        await gateway.stop()


@pytest.fixture
def gateway(make_gateway: MakeGateway) -> Gateway:
    """One gateway, not started."""
    return make_gateway()


async def until(condition: Callable[[], Any]) -> None:
    """Wait for a condition that the event loop brings about."""
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110 - the ledger has no event
            await asyncio.sleep(0.005)


async def test_accepted_document_is_indexed_and_its_upload_deleted(gateway: Gateway, state: State):
    """The last word says revision, generation and passages; only the text stays."""
    name = await gateway.acceptor.accept(upload(), "")
    assert (await gateway.job(name)).state is JobState.QUEUED
    gateway.start()
    job = await gateway.ended(name)
    assert (job.state, job.revision, job.generation, job.chunks_total) == (JobState.SUCCEEDED, 1, 2, 1)

    async def swept() -> bool:
        return not (await gateway.job(name)).blob

    await Sweeper(gateway.operations, gateway.ingestion.stores.blobs, kept_s=1000).sweep()
    await until(swept)
    assert await state.read() == state_of(content_of(upload()))


async def test_document_in_the_blob_store_is_accepted_where_it_is(gateway: Gateway, blobs: Blobs, state: State):
    """Its upload is the job's, and gone where the request id has an operation already; then it is indexed like any other."""
    content = b"name,place\n" + b"auk,cliff\n" * 30_000

    async def arrived() -> StoredUpload:
        incoming = IncomingUpload(blobs, COLLECTION)
        await incoming.write(content)
        stored = await incoming.finish()
        assert isinstance(stored, StoredUpload)
        return stored

    csv = replace(upload(), mime_type="text/csv")
    name = await gateway.acceptor.accept(replace(csv, content=await arrived()), "r")
    assert await gateway.acceptor.accept(replace(csv, content=await arrived()), "r") == name
    assert await gateway.acceptor.accept(replace(csv, content=InMemory(content)), "r") == name
    assert (await state.read())["texts"] == [content]
    gateway.start()
    assert (await gateway.ended(name)).state is JobState.SUCCEEDED


async def test_job_without_a_digest_is_worked_on(gateway: Gateway, blobs: Blobs, database: Database):
    """Gateways of before kept none; the document's record has it all the same."""
    name = await gateway.acceptor.accept(upload(), "")
    async with database.writing() as connection:
        fields = {"mime_type": "text/markdown", "title": "", "metadata": {}, "readers": [], "create_only": False}
        await connection.execute(update(job_rows).values(fields=fields))
    gateway.start()
    assert (await gateway.ended(name)).state is JobState.SUCCEEDED
    document = await gateway.ingestion.stores.ledger.document(upload().name)
    assert document.content_sha256 == upload().content.sha256.hex()


async def test_job_whose_upload_was_damaged_fails(gateway: Gateway, state: State, tmp_path: Path):
    """After as many attempts as a store gets; what was indexed under another digest would never be indexed again."""
    name = await gateway.acceptor.accept(upload(), "")
    (path,) = [path for path in (tmp_path / "blobs" / ".uploads").rglob("*") if path.is_file()]
    path.write_bytes(b"# B\n\nOther text")
    gateway.start()
    job = await gateway.ended(name)
    assert job.error is not None
    assert (job.state, job.attempt, job.error.reason) == (JobState.FAILED, ATTEMPTS_MAX, "UPLOAD_DAMAGED")
    assert (await state.read())["revision"] is None


async def test_document_accepted_by_a_gateway_that_died_is_indexed_by_another(make_gateway: MakeGateway):
    """Nothing of the first is needed but what it stored."""
    first, second = make_gateway(), make_gateway()
    name = await first.acceptor.accept(upload(), "")
    second.start()
    assert (await second.ended(name)).state is JobState.SUCCEEDED


async def test_same_document_again_is_unchanged(gateway: Gateway, embedder: FakeEmbedder):
    """A job that changes nothing succeeds and says so; nothing is embedded."""
    gateway.start()
    await gateway.ended(await gateway.acceptor.accept(upload(), ""))
    embedder.texts.clear()
    job = await gateway.ended(await gateway.acceptor.accept(upload(), ""))
    assert (job.state, job.unchanged, job.revision, job.generation) == (JobState.SUCCEEDED, True, 1, 2)
    assert embedder.texts == []


async def test_uploads_of_one_document_are_indexed_in_their_order(gateway: Gateway, ledger: Ledger):
    """However many are accepted at once, the last one stays."""
    names = [await gateway.acceptor.accept(upload(f"Text {number}."), "") for number in range(5)]
    gateway.start()
    jobs = [await gateway.ended(name) for name in names]
    assert [job.revision for job in jobs] == [1, 2, 3, 4, 5]


async def test_bad_document_fails_at_once_with_its_reason(gateway: Gateway):
    """What stays wrong is not tried again."""
    gateway.start()
    name = await gateway.acceptor.accept(upload("a\x00b"), "")
    job = await gateway.ended(name)
    assert job.error is not None
    assert (job.state, job.attempt, job.error.code, job.error.field) == (
        JobState.FAILED,
        1,
        "INVALID_ARGUMENT",
        "content",
    )
    error = await gateway.acceptor.ended(name)
    assert isinstance(error, InvalidInput)


async def test_document_is_tried_again_until_what_it_needs_is_back(
    make_gateway: MakeGateway, index: FakeIndex, clock: Clock
):
    """With the reason of the last failure while it waits, and none at its end."""
    down = Failing(index, "upsert", DependencyUnavailable("down", reason="DOWN"), after=False)
    broken = make_gateway(index=down, pause_s=25)
    broken.start()
    name = await broken.acceptor.accept(upload(), "")

    async def failed_once() -> bool:
        job = await broken.job(name)
        return job.error is not None and job.error.reason == "DOWN" and job.state is JobState.QUEUED

    await until(failed_once)
    await broken.stop()
    clock.now += 60
    working = make_gateway()
    working.start()
    job = await working.ended(name)
    assert (job.state, job.error) == (JobState.SUCCEEDED, None)
    assert job.attempt == 2


async def test_document_whose_attempts_are_used_up_fails_and_can_be_retried(
    make_gateway: MakeGateway, embedder: FakeEmbedder, clock: Clock
):
    """A dead letter keeps its reason and its upload."""
    broken = make_gateway(embedder=Failing(embedder, "passages", DependencyUnavailable("down"), after=False))
    broken.start()
    name = await broken.acceptor.accept(upload(), "")
    job = await broken.ended(name)
    assert job.error is not None
    assert (job.state, job.attempt, job.error.reason) == (JobState.FAILED, ATTEMPTS_MAX, "DEPENDENCY_UNAVAILABLE")
    await broken.stop()
    working = make_gateway()
    working.start()
    await working.operations.retry(name.tenant, name.operation)
    assert (await working.ended(name)).state is JobState.SUCCEEDED


async def test_document_that_kills_its_gateways_is_given_up(gateway: Gateway, clock: Clock):
    """Attempts that nobody ended count as well."""
    name = await gateway.acceptor.accept(upload(), "")
    for number in range(ATTEMPTS_MAX):
        assert len(await gateway.jobs.claim(f"dead{number}", limit=1, bytes_max=1000)) == 1
        clock.now += 31
    gateway.start()
    job = await gateway.ended(name)
    assert job.error is not None
    assert (job.state, job.error.reason) == (JobState.FAILED, "ATTEMPTS_EXHAUSTED")


class Held:
    """An embedder that answers when it is let."""

    def __init__(self, embedder: FakeEmbedder) -> None:
        self._embedder = embedder
        self.asked = asyncio.Event()
        self.let = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._embedder, name)

    async def passages(self, *arguments: Any, **options: Any) -> Any:
        """Wait."""
        self.asked.set()
        await self.let.wait()
        return await self._embedder.passages(*arguments, **options)


async def test_cancelled_job_in_work_is_undone(make_gateway: MakeGateway, embedder: FakeEmbedder, state: State):
    """Nothing of it stays."""
    held = Held(embedder)
    gateway = make_gateway(embedder=held)
    gateway.start()
    name = await gateway.acceptor.accept(upload(), "")
    await held.asked.wait()
    await gateway.operations.cancel(name.tenant, name.operation)
    await gateway.executor.cancelled()
    assert (await gateway.ended(name)).state is JobState.CANCELLED
    await Sweeper(gateway.operations, gateway.ingestion.stores.blobs, kept_s=1000).sweep()
    assert await state.read() == state_of()
    error = await gateway.acceptor.ended(name)
    assert isinstance(error, Conflict)
    assert error.reason == "JOB_CANCELLED"


async def test_gateway_that_stops_gives_its_jobs_back(make_gateway: MakeGateway, embedder: FakeEmbedder):
    """Another goes on at once, without waiting for a lease; who waited here is sent away."""
    held = Held(embedder)
    stopping = make_gateway(embedder=held)
    stopping.start()
    name = await stopping.acceptor.accept(upload(), "")
    await held.asked.wait()
    queued = await stopping.acceptor.accept(upload("Other."), "")
    waiting = asyncio.ensure_future(stopping.acceptor.ended(queued))
    await asyncio.sleep(0)
    await stopping.stop()
    with pytest.raises(NotReady):
        await waiting
    working = make_gateway()
    working.start()
    assert (await working.ended(name)).state is JobState.SUCCEEDED
    assert (await working.ended(queued)).revision == 2


async def test_publish_that_is_finished_by_another_gateway_ends_the_job(
    make_gateway: MakeGateway, index: FakeIndex, clock: Clock
):
    """A job whose document is part of an intent is not done again: who finishes the publish ends it."""
    broken = make_gateway(index=Failing(index, "stamp", DependencyUnavailable("down"), after=False))
    broken.start()
    name = await broken.acceptor.accept(upload(), "")

    async def intended() -> bool:
        return await broken.ingestion.stores.journal.expired_publishes() == [COLLECTION]

    await until(intended)
    await broken.stop()
    working = make_gateway()
    await working.ingestion.ingester.recover()
    job = await working.ended(name)
    assert (job.state, job.revision, job.attempt) == (JobState.SUCCEEDED, 1, 1)


async def test_request_id_of_another_content_keeps_nothing(gateway: Gateway, blobs: Blobs, state: State):
    """The same content is the same operation, with one upload stored."""
    first = await gateway.acceptor.accept(upload(), "r")
    assert await gateway.acceptor.accept(upload(), "r") == first
    with pytest.raises(Conflict):
        await gateway.acceptor.accept(upload("Other."), "r")
    with pytest.raises(Conflict):
        await gateway.acceptor.accept(upload(metadata={"k": 1.0}), "r")
    assert (await state.read())["texts"] == [content_of(upload())]


async def test_import_is_one_operation(gateway: Gateway, state: State):
    """Done when all its documents are."""
    uploads = [upload(f"Text {name}.", name=COLLECTION.document(name)) for name in "abc"]
    name = await gateway.acceptor.accept_together(uploads, "r")
    assert await gateway.acceptor.accept_together(uploads, "r") == name
    gateway.start()
    operation = await gateway.outcomes.wait(name.operation)
    assert [(job.document.document, job.state) for job in operation.jobs] == [
        (each, JobState.SUCCEEDED) for each in "abc"
    ]


async def test_work_is_bounded(make_gateway: MakeGateway, embedder: FakeEmbedder):
    """No more jobs are begun than may be in work."""
    held = Held(embedder)
    gateway = make_gateway(embedder=held, in_work_max=2)
    names = [
        await gateway.acceptor.accept(upload(f"Text {name}.", name=COLLECTION.document(name)), "") for name in "abcd"
    ]
    gateway.start()
    await held.asked.wait()
    for _ in range(50):
        await asyncio.sleep(0)
    assert [(await gateway.job(name)).attempt for name in names] == [1, 1, 0, 0]
    held.let.set()
    assert [(await gateway.ended(name)).attempt for name in names] == [1, 1, 1, 1]


async def test_upload_whose_gateway_died_before_it_was_accepted_is_deleted(
    gateway: Gateway, blobs: Blobs, state: State, tmp_path: Path
):
    """After a day, if no job names it."""
    await blobs.put_upload(COLLECTION, b"stray")
    name = await gateway.acceptor.accept(upload(), "")
    sweeper = Sweeper(gateway.operations, blobs, kept_s=1000)
    await sweeper.sweep_strays()
    assert len((await state.read())["texts"]) == 2
    for path in (tmp_path / "blobs" / ".uploads").rglob("*"):
        os.utime(path, (1.0, 1.0))
    await sweeper.sweep_strays()
    assert (await state.read())["texts"] == [content_of(upload())]
    gateway.start()
    assert (await gateway.ended(name)).state is JobState.SUCCEEDED
