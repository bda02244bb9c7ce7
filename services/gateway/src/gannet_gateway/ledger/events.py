"""Events: that an operation or a run of a source has ended, written down in the transaction that ended it.

One row for each enabled webhook of the collection. Whoever ends jobs calls `operations_ended` in the same transaction, so that a crash
loses either both or nothing.
"""

import json
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, case, func, insert, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from gannet_gateway.ledger.job import JobState
from gannet_gateway.ledger.schema import deliveries, jobs, webhooks
from gannet_gateway.names import CollectionName, OperationName, SourceName


class EventType(StrEnum):
    """What happened."""

    OPERATION_SUCCEEDED = "operation.succeeded"
    OPERATION_FAILED = "operation.failed"
    OPERATION_CANCELLED = "operation.cancelled"
    SOURCE_RUN_SUCCEEDED = "source_run.succeeded"
    SOURCE_RUN_FAILED = "source_run.failed"


class DeliveryState(StrEnum):
    """What has become of an event at one webhook."""

    PENDING = "PENDING"
    DELIVERED = "DELIVERED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedJob:
    """A job that the transaction has ended."""

    tenant: str
    collection: str
    operation: str


# What a statement that ends jobs returns.
ENDED = (jobs.c.tenant, jobs.c.collection, jobs.c.operation)
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:operation, 0))")


async def operations_ended(connection: AsyncConnection, ended: Collection[EndedJob], *, now: float) -> None:
    """Write the events of those operations whose last jobs are among `ended`.

    Called when the transaction's other changes are made: it locks webhooks, then operations, and nothing may wait for more after that.
    """
    told = await _webhooks(connection, {CollectionName(each.tenant, each.collection) for each in ended})
    wanted = {each.operation: each for each in ended if CollectionName(each.tenant, each.collection) in told}
    if not wanted:
        return
    done, open_ = await _whole(connection, sorted(wanted))
    if open_ and connection.dialect.name != "sqlite":
        # Two gateways may end the last two jobs of an import at the same moment and not see each other. Whoever comes second here sees
        # what the first one has committed.
        for operation in open_:
            await connection.execute(_LOCK, {"operation": operation})
        done |= (await _whole(connection, open_))[0]
    rows: list[dict[str, Any]] = []
    for operation, counts in done.items():
        collection = CollectionName(wanted[operation].tenant, wanted[operation].collection)
        event_type, data = await _operation(connection, OperationName(collection.tenant, operation), collection, counts)
        rows += _rows(collection, told[collection], event_type, data, now)
    if rows:
        await connection.execute(insert(deliveries), rows)


async def source_run_ended(
    connection: AsyncConnection, name: SourceName, run: Mapping[str, Any], *, now: float
) -> None:
    """Write the event of a run; one in which any file failed has failed."""
    told = await _webhooks(connection, {name.parent})
    if name.parent not in told:
        return
    event_type = EventType.SOURCE_RUN_FAILED if run["error"] or run["failed"] else EventType.SOURCE_RUN_SUCCEEDED
    data = {
        "source": str(name),
        "collection": str(name.parent),
        **{f"{count}_count": run[count] for count in ("indexed", "unchanged", "deleted", "failed")},
        # Why, GetSource says: it may name what only the operator's places hold.
        "ended_early": bool(run["error"]),
    }
    await connection.execute(insert(deliveries), _rows(name.parent, told[name.parent], event_type, data, now))


async def _webhooks(connection: AsyncConnection, names: Collection[CollectionName]) -> dict[CollectionName, list[str]]:
    """Ids of the enabled webhooks, by collection; locked, so that none is disabled or deleted before its event is there."""
    of = [(name.tenant, name.collection) for name in names]
    query = (
        select(webhooks.c.tenant, webhooks.c.collection, webhooks.c.id)
        .where(tuple_(webhooks.c.tenant, webhooks.c.collection).in_(of), ~webhooks.c.disabled)
        .with_for_update(read=True)
    )
    found: dict[CollectionName, list[str]] = {}
    for tenant, collection, webhook in (await connection.execute(query)).all():
        found.setdefault(CollectionName(tenant, collection), []).append(webhook)
    return found


async def _whole(
    connection: AsyncConnection, operations: Sequence[str]
) -> tuple[dict[str, Mapping[Any, Any]], list[str]]:
    """How the jobs of each operation ended, of those that have ended as a whole, and the others."""

    def count(condition: ColumnElement[bool]) -> ColumnElement[int]:
        return func.sum(case((condition, 1), else_=0))

    failed = jobs.c.state == JobState.FAILED.value
    query = (
        select(
            jobs.c.operation,
            func.count().label("documents"),
            count(jobs.c.ended_at_s.is_(None)).label("open"),
            count(jobs.c.state == JobState.SUCCEEDED.value).label("succeeded"),
            count(failed).label("failed"),
            count(jobs.c.state == JobState.CANCELLED.value).label("cancelled"),
            func.max(jobs.c.generation).label("generation"),
            func.coalesce(func.min(case((failed, jobs.c.number))), func.min(jobs.c.number)).label("telling"),
        )
        .where(jobs.c.operation.in_(operations))
        .group_by(jobs.c.operation)
        .order_by(jobs.c.operation)
    )
    rows = (await connection.execute(query)).mappings().all()
    return (
        {row["operation"]: row for row in rows if not row["open"]},
        [row["operation"] for row in rows if row["open"]],
    )


async def _operation(
    connection: AsyncConnection, name: OperationName, collection: CollectionName, counts: Mapping[Any, Any]
) -> tuple[EventType, dict[str, Any]]:
    """Type and data of an operation's event; `telling` is its only job, or the first that failed."""
    query = select(jobs.c.document, jobs.c.revision, jobs.c.unchanged, jobs.c.error)
    job = (await connection.execute(query.where(jobs.c.number == counts["telling"]))).mappings().one()
    event_type = EventType.OPERATION_SUCCEEDED
    if counts["failed"]:
        event_type = EventType.OPERATION_FAILED
    elif counts["cancelled"]:
        event_type = EventType.OPERATION_CANCELLED
    data: dict[str, Any] = {
        "operation": str(name),
        "collection": str(collection),
        "document_count": counts["documents"],
        **{f"{state}_count": counts[state] for state in ("succeeded", "failed", "cancelled")},
        "generation": counts["generation"],
    }
    if counts["documents"] == 1:
        data["document"] = str(collection.document(job["document"]))
        data["revision"], data["unchanged"] = job["revision"], job["unchanged"]
    if event_type is EventType.OPERATION_FAILED and job["error"]:
        # Not the message, which may quote the document.
        data["error"] = {"code": job["error"]["code"], "reason": job["error"]["reason"]}
    return event_type, data


def _rows(
    collection: CollectionName, told: Sequence[str], event_type: EventType, data: Mapping[str, Any], now: float
) -> list[dict[str, Any]]:
    body = {"type": event_type.value, "timestamp": datetime.fromtimestamp(now, UTC).isoformat(), "data": data}
    row = {
        "tenant": collection.tenant,
        "collection": collection.collection,
        "event": uuid.uuid4().hex,
        "event_type": event_type.value,
        "body": json.dumps(body, ensure_ascii=False, separators=(",", ":")),
        "state": DeliveryState.PENDING.value,
        "attempt": 0,
        "holder": "",
        "due_at_s": now,
        "status_code": 0,
        "error": "",
        "created_at_s": now,
        "queued_at_s": now,
    }
    return [{**row, "webhook": webhook} for webhook in told]
