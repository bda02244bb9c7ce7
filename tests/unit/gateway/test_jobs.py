"""The queue of accepted documents, on both engines."""

import asyncio
from typing import Any

import pytest
from unit.gateway.conftest import Clock
from unit.gateway.fakes import COLLECTION, change, collection_record

from gannet_gateway.ledger.engine import Database
from gannet_gateway.ledger.job import Ending, Failure, Job, JobState, NewJob, Progress
from gannet_gateway.ledger.jobs import Jobs
from gannet_gateway.ledger.journal import Journal
from gannet_gateway.ledger.ledger import Ledger
from gannet_gateway.ledger.operations import OperationFilter, Operations
from gannet_gateway.ledger.records import Purpose
from gannet_gateway.names import CollectionName
from gannet_service.errors import Conflict, NotFound, Overloaded

OTHER = CollectionName("other", "docs")
LEASE_S = 30


@pytest.fixture
async def jobs(database: Database, clock: Clock, ledger: Ledger) -> Jobs:
    """A queue for two tenants, five jobs each."""
    await ledger.add_tenant(OTHER.tenant)
    await ledger.create_collection(collection_record(OTHER))
    return Jobs(database, lease_s=LEASE_S, queued_max=5, request_ids_s=100, clock=clock)


@pytest.fixture
def operations(database: Database, clock: Clock) -> Operations:
    """The same as its callers see it."""
    return Operations(database, clock=clock)


def new(document: str, collection: CollectionName = COLLECTION, **fields: Any) -> NewJob:
    """A document to accept; its operation is named like it."""
    defaults = {"operation": f"op-{document}", "blob": f"u-{document}", "blob_bytes": 10, "fields": {"title": "T"}}
    return NewJob(document=collection.document(document), **{**defaults, **fields})


async def claimed(jobs: Jobs, holder: str = "g1", *, limit: int = 10, bytes_max: int = 1000) -> list[Job]:
    """What a gateway begins."""
    return await jobs.claim(holder, limit=limit, bytes_max=bytes_max)


def names(found: list[Job]) -> list[str]:
    """The documents of jobs."""
    return [job.document.document for job in found]


async def test_accepted_jobs_are_claimed_once_in_their_order(jobs: Jobs):
    """Many at once, each by one gateway, with all that was said of the document."""
    operations = await asyncio.gather(*(jobs.accept(new(name)) for name in "abc"))
    assert operations == ["op-a", "op-b", "op-c"]
    first = await claimed(jobs, "g1", limit=2)
    assert names(first) == ["a", "b"]
    assert (first[0].fields, first[0].blob, first[0].state, first[0].attempt) == (
        {"title": "T"},
        "u-a",
        JobState.CHUNKING,
        1,
    )
    assert names(await claimed(jobs, "g2")) == ["c"]
    assert await claimed(jobs, "g3") == []


async def test_claims_at_the_same_moment_share_no_job(jobs: Jobs):
    """Whichever gateway asks."""
    await asyncio.gather(*(jobs.accept(new(name)) for name in "abcde"))
    found = await asyncio.gather(*(claimed(jobs, f"g{place}", limit=2) for place in range(4)))
    assert sorted(name for batch in found for name in names(batch)) == list("abcde")


async def test_claim_takes_turns_between_tenants(jobs: Jobs):
    """A tenant with many documents waiting does not keep another's waiting."""
    for name in "abcd":
        await jobs.accept(new(name))
    for name in "xy":
        await jobs.accept(new(name, OTHER))
    first = await claimed(jobs, limit=4)
    assert sorted(job.document.tenant for job in first) == ["acme", "acme", "other", "other"]
    assert names(await claimed(jobs, limit=4)) == ["c", "d"]


async def test_claim_is_bounded_by_bytes(jobs: Jobs):
    """One job is claimed whatever its size, more only while they fit."""
    for name, size in (("a", 500), ("b", 40), ("c", 40)):
        await jobs.accept(new(name, blob_bytes=size))
    assert names(await claimed(jobs, bytes_max=100)) == ["a"]
    assert names(await claimed(jobs, bytes_max=100)) == ["b", "c"]


async def test_jobs_of_one_document_follow_each_other(jobs: Jobs):
    """The last upload is the one that stays: the next is due when the one before has ended."""
    await jobs.accept(new("a"))
    await jobs.accept(new("a", operation="op-a2"))
    (first,) = await claimed(jobs)
    assert await claimed(jobs) == []
    assert await jobs.end(Ending(job=first, state=JobState.CANCELLED))
    assert [job.operation for job in await claimed(jobs)] == ["op-a2"]


async def test_job_of_a_gateway_that_is_gone_is_claimed_by_another(jobs: Jobs, clock: Clock, operations: Operations):
    """Once its lease has run out; what the first one says afterwards changes nothing."""
    await jobs.accept(new("a"))
    (lost,) = await claimed(jobs, "g1")
    clock.now += LEASE_S / 2
    assert await jobs.renew("g1", {lost.number: (1, Progress())}) == {lost.number: False}
    clock.now += LEASE_S - 1
    assert await claimed(jobs, "g2") == []
    clock.now += 2
    (taken,) = await claimed(jobs, "g2")
    assert (taken.attempt, taken.holder) == (2, "g2")
    assert not await jobs.end(Ending(job=lost, state=JobState.FAILED))
    assert await jobs.renew("g1", {lost.number: (1, Progress())}) == {}
    assert (await operations.get("acme", "op-a")).jobs[0].state is JobState.CHUNKING


async def test_renewal_writes_progress_down(jobs: Jobs, operations: Operations):
    """Each job's own, in one go."""
    for name in "ab":
        await jobs.accept(new(name))
    first, second = await claimed(jobs)
    progress = Progress(state=JobState.EMBEDDING, chunks_total=7, chunks_done=3, chunks_cached=2)
    await jobs.renew("g1", {first.number: (1, progress), second.number: (1, Progress(state=JobState.STORING))})
    job = (await operations.get("acme", "op-a")).jobs[0]
    assert (job.state, job.chunks_total, job.chunks_done, job.chunks_cached) == (JobState.EMBEDDING, 7, 3, 2)
    assert (await operations.get("acme", "op-b")).jobs[0].state is JobState.STORING


async def test_job_that_is_retried_is_due_after_its_pause(jobs: Jobs, clock: Clock, operations: Operations):
    """With the reason of the last failure for whoever looks."""
    await jobs.accept(new("a"))
    (job,) = await claimed(jobs)
    failure = Failure(code="UNAVAILABLE", reason="DOWN", message="down")
    assert await jobs.end(Ending(job=job, state=JobState.QUEUED, error=failure, retry_at_s=clock.now + 5))
    assert await claimed(jobs) == []
    waiting = (await operations.get("acme", "op-a")).jobs[0]
    assert (waiting.state, waiting.error, waiting.ended) == (JobState.QUEUED, failure, False)
    clock.now += 6
    assert [job.attempt for job in await claimed(jobs)] == [2]


async def test_full_queue_refuses_a_tenant_alone(jobs: Jobs):
    """The limit and the reason are named; the other tenant's documents are taken, as are this one's when there is room."""
    results = await asyncio.gather(*(jobs.accept(new(f"d{place}")) for place in range(6)), return_exceptions=True)
    assert [type(result) for result in results] == [str] * 5 + [Overloaded]
    assert (results[5].reason, results[5].retry_after_s) == ("QUEUE_FULL", 1.0)
    assert await jobs.accept(new("x", OTHER)) == "op-x"
    (first, *_) = await claimed(jobs, limit=1)
    await jobs.end(Ending(job=first, state=JobState.CANCELLED))
    assert await jobs.accept(new("late")) == "op-late"
    with pytest.raises(Overloaded):
        await jobs.accept_together([new("m"), new("n")])


async def test_request_id_with_the_same_content_is_the_same_operation(jobs: Jobs, operations: Operations, clock: Clock):
    """Also in one batch; with another content it is refused; of another tenant, or once forgotten, it is new."""
    same = [new("a", operation=f"op-{place}", request_id="r1", digest="d1") for place in range(2)]
    assert await asyncio.gather(*map(jobs.accept, same)) == ["op-0", "op-0"]
    assert await jobs.accept(new("a", operation="op-2", request_id="r1", digest="d1")) == "op-0"
    with pytest.raises(Conflict) as caught:
        await jobs.accept(new("a", operation="op-3", request_id="r1", digest="d2"))
    assert (caught.value.reason, caught.value.field) == ("REQUEST_ID_REUSED", "request_id")
    assert await jobs.accept(new("a", OTHER, operation="op-4", request_id="r1", digest="d2")) == "op-4"
    assert len((await operations.page("acme", OperationFilter(), before=0, limit=10)).items) == 1
    clock.now += 101
    assert await jobs.accept(new("a", operation="op-5", request_id="r1", digest="d2")) == "op-5"


async def test_import_is_accepted_whole_and_once(jobs: Jobs, operations: Operations):
    """Its documents share the operation, and the request id."""
    wanted = [new(name, operation="op", request_id="r", digest="d") for name in "ab"]
    assert await jobs.accept_together(wanted) == "op"
    again = [new(name, operation="op2", request_id="r", digest="d") for name in "ab"]
    assert await jobs.accept_together(again) == "op"
    operation = await operations.get("acme", "op")
    assert names(list(operation.jobs)) == ["a", "b"]
    assert not operation.done


async def test_publish_ends_the_jobs_of_its_documents(
    jobs: Jobs, journal: Journal, ledger: Ledger, operations: Operations
):
    """In the transaction that shows them, with revision and generation; whoever else would end them is late."""
    await jobs.accept(new("a"))
    await jobs.accept(new("b"))
    first, second = await claimed(jobs)
    claim = await journal.claim(first.document, Purpose.WRITE, job=first.id)
    publish = await journal.begin_publish(COLLECTION, [change(claim, chunk_count=3)])
    assert not await jobs.end(Ending(job=first, state=JobState.CANCELLED))
    assert not (await operations.get("acme", "op-a")).done
    await journal.finish_publish(publish)
    job = (await operations.get("acme", "op-a")).jobs[0]
    assert (job.state, job.revision, job.generation, job.chunks_total) == (JobState.SUCCEEDED, 1, 2, 3)
    assert (await ledger.collection(COLLECTION)).generation == job.generation
    assert (await operations.get("acme", "op-b")).jobs[0].id == second.id
    assert not (await operations.get("acme", "op-b")).done


async def test_cancel_ends_what_waits_and_asks_what_is_in_work(jobs: Jobs, operations: Operations):
    """Its gateway hears of it with the next renewal."""
    for name in "ab":
        await jobs.accept(new(name))
    (running,) = await claimed(jobs, limit=1)
    for operation in ("op-a", "op-b"):
        await operations.cancel("acme", operation)
    assert (await operations.get("acme", "op-b")).jobs[0].state is JobState.CANCELLED
    assert not (await operations.get("acme", "op-a")).done
    assert await jobs.renew("g1", {running.number: (1, Progress())}) == {running.number: True}
    with pytest.raises(NotFound):
        await operations.cancel("other", "op-a")


async def test_retry_queues_what_failed_again(jobs: Jobs, operations: Operations):
    """With all its attempts before it; what has succeeded, or lost its upload, is not."""
    await jobs.accept(new("a"))
    with pytest.raises(Conflict) as caught:
        await operations.retry("acme", "op-a")
    assert caught.value.reason == "NOT_RETRYABLE"
    (job,) = await claimed(jobs)
    await jobs.end(Ending(job=job, state=JobState.FAILED, error=Failure(code="INTERNAL", reason="R", message="m")))
    assert not (await operations.retry("acme", "op-a")).done
    (again,) = await claimed(jobs)
    assert again.attempt == 1
    await jobs.end(Ending(job=again, state=JobState.SUCCEEDED, unchanged=True, revision=4, generation=9, chunks=2))
    ended = (await operations.get("acme", "op-a")).jobs[0]
    assert (ended.unchanged, ended.revision, ended.generation, ended.chunks_total) == (True, 4, 9, 2)
    with pytest.raises(Conflict):
        await operations.retry("acme", "op-a")


async def test_list_of_operations_is_the_tenants_newest_first(jobs: Jobs, operations: Operations):
    """Page by page, narrowed by state and collection."""
    for name in "abc":
        await jobs.accept(new(name))
    await jobs.accept(new("x", OTHER))
    page = await operations.page("acme", OperationFilter(), before=0, limit=2)
    assert [each.id for each in page.items] == ["op-c", "op-b"]
    rest = await operations.page("acme", OperationFilter(), before=int(page.next_after or 0), limit=2)
    assert ([each.id for each in rest.items], rest.next_after) == (["op-a"], None)
    await operations.cancel("acme", "op-b")
    wanted = OperationFilter(state="CANCELLED", collection="docs")
    assert [each.id for each in (await operations.page("acme", wanted, before=0, limit=9)).items] == ["op-b"]
    assert (await operations.page("acme", OperationFilter(collection="none"), before=0, limit=9)).items == []


async def test_what_has_ended_is_swept_after_its_time(jobs: Jobs, operations: Operations, clock: Clock):
    """The upload of a success at once, that of a failure with its record."""
    for name in "ab":
        await jobs.accept(new(name, request_id=f"r{name}", digest="d"))
    first, second = await claimed(jobs)
    await jobs.end(Ending(job=first, state=JobState.SUCCEEDED))
    await jobs.end(Ending(job=second, state=JobState.FAILED))
    assert names(await operations.uploads_to_delete()) == ["a"]
    await operations.uploads_deleted([first])
    assert await operations.uploads_to_delete() == []
    assert await operations.expired(kept_s=50) == []
    clock.now += 51
    gone = await operations.expired(kept_s=50)
    assert sorted(names(gone)) == ["a", "b"]
    await operations.forget(gone)
    with pytest.raises(NotFound):
        await operations.get("acme", "op-a")
