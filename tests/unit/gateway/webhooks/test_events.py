"""Events are written with what they tell of, on both engines."""

import asyncio
import json
from typing import Any

import pytest
from sqlalchemy import select, text
from unit.gateway.conftest import Clock
from unit.gateway.fakes import COLLECTION, change, collection_record
from unit.gateway.webhooks.conftest import SECRET

from gannet_gateway.ledger import events
from gannet_gateway.ledger.engine import Database
from gannet_gateway.ledger.job import Ending, Failure, JobState, NewJob
from gannet_gateway.ledger.jobs import Jobs
from gannet_gateway.ledger.journal import Journal
from gannet_gateway.ledger.ledger import Ledger
from gannet_gateway.ledger.operations import Operations
from gannet_gateway.ledger.records import Purpose
from gannet_gateway.ledger.schema import deliveries
from gannet_gateway.ledger.sources import Run, Source, Sources
from gannet_gateway.ledger.webhooks import WEBHOOKS_MAX, Webhook, Webhooks
from gannet_gateway.names import CollectionName, SourceName, WebhookName
from gannet_service.errors import AlreadyExists, DependencyUnavailable, NotFound, Overloaded

NAME = WebhookName(COLLECTION.tenant, COLLECTION.collection, "hook")
QUIET = CollectionName(COLLECTION.tenant, "quiet")
FAILURE = Failure(code="INVALID_ARGUMENT", reason="INVALID_INPUT", message="line 3 says 'secret words'")


@pytest.fixture
async def webhooks(database: Database, clock: Clock, ledger: Ledger) -> Webhooks:
    """Webhooks of a tenant with two collections, of which one has a webhook."""
    await ledger.create_collection(collection_record(QUIET))
    made = Webhooks(database, clock=clock)
    await made.create(webhook(), SECRET)
    return made


@pytest.fixture
def jobs(database: Database, clock: Clock, webhooks: Webhooks) -> Jobs:
    """The queue."""
    return Jobs(database, lease_s=30, queued_max=100, request_ids_s=100, clock=clock)


@pytest.fixture
def operations(database: Database, clock: Clock) -> Operations:
    """Operations."""
    return Operations(database, clock=clock)


def webhook(name: WebhookName = NAME, **fields: Any) -> Webhook:
    """A webhook."""
    return Webhook(name=name, **{"url": "https://a.example/x", "receiver": "https://a.example:443", **fields})


def new(document: str, operation: str, collection: CollectionName = COLLECTION) -> NewJob:
    """A document of an operation, whose id is repeated to the length of one."""
    return NewJob(
        document=collection.document(document), operation=operation * 32, blob=document, blob_bytes=1, fields={}
    )


async def written(database: Database) -> list[tuple[str, dict[str, Any]]]:
    """Types and data of the events that are there."""
    async with database.reading() as connection:
        rows = (await connection.execute(select(deliveries).order_by(deliveries.c.number))).mappings().all()
    bodies = [json.loads(row["body"]) for row in rows]
    assert [row["event_type"] for row in rows] == [body["type"] for body in bodies]
    return [(body["type"], body["data"]) for body in bodies]


async def test_job_that_a_publish_ends_is_told_with_its_revision(jobs: Jobs, journal: Journal, database: Database):
    """The flip that shows the document writes the event, once, whoever flips it."""
    await jobs.accept(new("a.md", "a"))
    (job,) = await jobs.claim("g1", limit=1, bytes_max=10)
    claim = await journal.claim(COLLECTION.document("a.md"), Purpose.WRITE, job=job.id)
    publish = await journal.begin_publish(COLLECTION, [change(claim)])
    assert await written(database) == []
    await journal.finish_publish(publish)
    await journal.finish_publish(publish)
    expected = {
        "operation": f"tenants/acme/operations/{'a' * 32}",
        "collection": str(COLLECTION),
        "document_count": 1,
        "succeeded_count": 1,
        "failed_count": 0,
        "cancelled_count": 0,
        "generation": publish.generation,
        "document": f"{COLLECTION}/documents/a.md",
        "revision": 1,
        "unchanged": False,
    }
    assert await written(database) == [("operation.succeeded", expected)]


async def test_failed_job_is_told_when_it_is_not_tried_again(jobs: Jobs, database: Database):
    """A pause is no end; the reason is told, the message, which may quote the document, is not."""
    await jobs.accept(new("a.md", "a"))
    (job,) = await jobs.claim("g1", limit=1, bytes_max=10)
    await jobs.end(Ending(job=job, state=JobState.QUEUED, error=FAILURE, retry_at_s=0))
    assert await written(database) == []
    (job,) = await jobs.claim("g1", limit=1, bytes_max=10)
    assert await jobs.end(Ending(job=job, state=JobState.FAILED, error=FAILURE))
    assert not await jobs.end(Ending(job=job, state=JobState.FAILED, error=FAILURE))
    ((event_type, data),) = await written(database)
    assert event_type == "operation.failed"
    assert data["error"] == {"code": "INVALID_ARGUMENT", "reason": "INVALID_INPUT"}
    assert "secret words" not in json.dumps(data)


async def test_import_is_told_once_when_its_last_document_has_ended(
    jobs: Jobs, operations: Operations, database: Database
):
    """However its documents end; one that failed makes it failed."""
    await jobs.accept_together([new(name, "i") for name in "abc"])
    first, second, _ = await jobs.claim("g1", limit=3, bytes_max=10)
    await jobs.end(Ending(job=first, state=JobState.SUCCEEDED, revision=1, generation=4))
    await jobs.end(Ending(job=second, state=JobState.FAILED, error=FAILURE))
    assert await written(database) == []
    (third,) = [job for job in (await operations.get("acme", "i" * 32)).jobs if not job.ended]
    await jobs.end(Ending(job=third, state=JobState.CANCELLED))
    ((event_type, data),) = await written(database)
    assert event_type == "operation.failed"
    counts = [data[f"{name}_count"] for name in ("document", "succeeded", "failed", "cancelled")]
    assert (counts, data["generation"], "document" in data) == ([3, 1, 1, 1], 4, False)
    assert data["error"]["reason"] == "INVALID_INPUT"


async def test_cancelled_operation_is_told_when_nothing_of_it_is_in_work(
    jobs: Jobs, operations: Operations, database: Database
):
    """At once where it had not begun, else when its gateway has let go of it."""
    await jobs.accept(new("a", "a"))
    await operations.cancel("acme", "a" * 32)
    await jobs.accept_together([new(name, "i") for name in "bc"])
    (job,) = await jobs.claim("g1", limit=1, bytes_max=10)
    await operations.cancel("acme", "i" * 32)
    assert [kind for kind, _ in await written(database)] == ["operation.cancelled"]
    await jobs.end(Ending(job=job, state=JobState.CANCELLED))
    assert [kind for kind, _ in await written(database)] == ["operation.cancelled"] * 2


async def test_retried_operation_is_told_again_as_another_event(jobs: Jobs, operations: Operations, database: Database):
    """It ended twice."""
    await jobs.accept(new("a", "a"))
    for state in (JobState.FAILED, JobState.SUCCEEDED):
        (job,) = await jobs.claim("g1", limit=1, bytes_max=10)
        await jobs.end(Ending(job=job, state=state, error=FAILURE if state is JobState.FAILED else None))
        if state is JobState.FAILED:
            await operations.retry("acme", "a" * 32)
    assert [kind for kind, _ in await written(database)] == ["operation.failed", "operation.succeeded"]


async def test_last_documents_that_end_at_the_same_moment_are_told_once(jobs: Jobs, database: Database, clock: Clock):
    """Neither transaction sees the other's job as ended; the second one waits for the first, and tells."""
    await jobs.accept_together([new(name, "i") for name in "ab"])
    first, second = await jobs.claim("g1", limit=2, bytes_max=10)
    async with asyncio.TaskGroup() as tasks, database.writing() as connection:
        ending = Ending(job=first, state=JobState.SUCCEEDED)
        await connection.execute(
            text("UPDATE jobs SET ended_at_s = 1, due_at_s = NULL, state = 'SUCCEEDED' WHERE number = :number"),
            {"number": ending.job.number},
        )
        ended = events.EndedJob(tenant="acme", collection=COLLECTION.collection, operation="i" * 32)
        await events.operations_ended(connection, [ended], now=clock())
        other = tasks.create_task(jobs.end(Ending(job=second, state=JobState.SUCCEEDED)))
        # SQLite lets the other one begin only when this one has ended.
        while database.shared and not other.done() and not await waiting(database):  # noqa: ASYNC110 - another process knows
            await asyncio.sleep(0.01)
    assert [kind for kind, _ in await written(database)] == ["operation.succeeded"]


async def waiting(database: Database) -> bool:
    """Whether a transaction of PostgreSQL waits for an operation."""
    query = text(
        "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database "
        "WHERE locktype = 'advisory' AND NOT granted AND datname = current_database()"
    )
    async with database.reading() as connection:
        return (await connection.execute(query)).scalar_one() > 0


async def test_job_does_not_end_without_its_event(
    jobs: Jobs, operations: Operations, database: Database, monkeypatch: pytest.MonkeyPatch
):
    """What comes between the two takes both back."""
    await jobs.accept(new("a", "a"))
    (job,) = await jobs.claim("g1", limit=1, bytes_max=10)

    def fail(*_arguments: object) -> None:
        raise DependencyUnavailable("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(events, "_rows", fail)
        with pytest.raises(DependencyUnavailable):
            await jobs.end(Ending(job=job, state=JobState.SUCCEEDED))
    assert (await operations.get("acme", "a" * 32)).done is False
    assert await jobs.end(Ending(job=job, state=JobState.SUCCEEDED))
    assert len(await written(database)) == 1


async def test_every_enabled_webhook_of_the_collection_hears_of_it(jobs: Jobs, webhooks: Webhooks, database: Database):
    """With the same id; disabled ones and other collections' do not."""
    other = WebhookName(NAME.tenant, NAME.collection, "other")
    await webhooks.create(webhook(other), SECRET)
    await webhooks.create(webhook(WebhookName(NAME.tenant, NAME.collection, "off"), disabled=True), SECRET)
    await jobs.accept(new("a", "a"))
    await jobs.accept(new("a", "b", QUIET))
    for job in await jobs.claim("g1", limit=2, bytes_max=10):
        await jobs.end(Ending(job=job, state=JobState.SUCCEEDED))
    async with database.reading() as connection:
        rows = (await connection.execute(select(deliveries.c.webhook, deliveries.c.event))).all()
    assert sorted(name for name, _ in rows) == ["hook", "other"]
    assert len({event for _, event in rows}) == 1


@pytest.mark.parametrize(
    "run, event_type",
    [
        (Run(started_at_s=1, indexed=2, unchanged=3, deleted=4), "source_run.succeeded"),
        (Run(started_at_s=1, failed=1, failures=(("a.md", "no UTF-8"),)), "source_run.failed"),
        (Run(started_at_s=1, error="/srv/docs is not a directory here"), "source_run.failed"),
    ],
)
async def test_run_of_a_source_is_told_by_the_gateway_whose_it_is(
    run: Run, event_type: str, database: Database, clock: Clock, webhooks: Webhooks
):
    """With its counts; who lost the source tells nothing."""
    sources = Sources(database, lease_s=30, clock=clock)
    name = SourceName(COLLECTION.tenant, COLLECTION.collection, "wiki")
    await sources.create(Source(name=name, directory="/srv"))
    claimed = await sources.claim("g1")
    assert claimed is not None
    assert not await sources.finish(claimed, "g2", run, None)
    assert await written(database) == []
    assert await sources.finish(claimed, "g1", run, None)
    expected = {
        "source": str(name),
        "collection": str(COLLECTION),
        "indexed_count": run.indexed,
        "unchanged_count": run.unchanged,
        "deleted_count": run.deleted,
        "failed_count": run.failed,
        "ended_early": bool(run.error),
    }
    assert await written(database) == [(event_type, expected)]


async def test_webhooks_of_a_collection_are_kept_changed_and_deleted(
    webhooks: Webhooks, jobs: Jobs, database: Database
):
    """A taken id, a missing collection and one too many are refused; deletion takes the deliveries along."""
    with pytest.raises(AlreadyExists):
        await webhooks.create(webhook(), SECRET)
    with pytest.raises(NotFound):
        await webhooks.create(webhook(WebhookName(NAME.tenant, "nowhere", "x")), SECRET)
    for place in range(WEBHOOKS_MAX - 1):
        await webhooks.create(webhook(WebhookName(NAME.tenant, NAME.collection, f"h{place}")), SECRET)
    with pytest.raises(Overloaded):
        await webhooks.create(webhook(WebhookName(NAME.tenant, NAME.collection, "one-more")), SECRET)
    page = await webhooks.list(COLLECTION, after="h0", limit=3)
    assert [each.name.webhook for each in page.items] == ["h1", "h2", "h3"]
    assert page.next_after == "h3"
    changed = await webhooks.change(NAME, place=("http://b.example/", "http://b.example:80"))
    assert (changed.url, changed.receiver, changed.disabled) == ("http://b.example/", "http://b.example:80", False)
    await jobs.accept(new("a", "a"))
    (job,) = await jobs.claim("g1", limit=1, bytes_max=10)
    await jobs.end(Ending(job=job, state=JobState.SUCCEEDED))
    assert len(await written(database)) == WEBHOOKS_MAX
    await webhooks.delete(NAME)
    assert len(await written(database)) == WEBHOOKS_MAX - 1
    for gone in (webhooks.get(NAME), webhooks.delete(NAME), webhooks.change(NAME, disabled=True)):
        with pytest.raises(NotFound):
            await gone


async def test_error_of_the_database_does_not_quote_the_secret(webhooks: Webhooks, database: Database):
    """It goes into logs and replies."""
    async with database.writing() as connection:
        await connection.execute(text("ALTER TABLE webhooks DROP COLUMN secret"))
    with pytest.raises(DependencyUnavailable) as caught:
        await webhooks.create(webhook(WebhookName(NAME.tenant, NAME.collection, "other")), SECRET)
    assert "secret" in caught.value.message
    assert SECRET not in caught.value.message


async def test_collection_that_is_deleted_takes_its_webhooks_and_events_along(
    jobs: Jobs, journal: Journal, webhooks: Webhooks, database: Database
):
    """What its jobs still end in is told to nobody."""
    await jobs.accept(new("a", "a"))
    await jobs.accept(new("b", "b"))
    first, second = await jobs.claim("g1", limit=2, bytes_max=10)
    await jobs.end(Ending(job=first, state=JobState.SUCCEEDED))
    assert len(await written(database)) == 1
    await journal.begin_delete_collection(COLLECTION)
    await journal.finish_delete_collection(COLLECTION)
    assert await jobs.end(Ending(job=second, state=JobState.FAILED, error=FAILURE))
    assert await written(database) == []
    with pytest.raises(NotFound):
        await webhooks.get(NAME)
