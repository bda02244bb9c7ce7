"""The queue of accepted documents: accepted and claimed many at a time, each attempt held by a lease that its gateway renews.

A job is ended by the publish that shows its document (`Journal.finish_publish`), in the same transaction, or here when nothing was
published. Every step of an attempt is conditional on its holder and its number: who lost its lease changes nothing any more.
"""

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import and_, bindparam, delete, func, insert, select, tuple_, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from gannet_gateway.ledger.engine import Database
from gannet_gateway.ledger.events import ENDED, EndedJob, operations_ended
from gannet_gateway.ledger.grouping import Grouped
from gannet_gateway.ledger.job import Ending, Job, JobState, NewJob, Progress, to_job
from gannet_gateway.ledger.schema import claims, idempotency, jobs
from gannet_gateway.names import DocumentName
from gannet_service.errors import Conflict, GannetError, Overloaded

BATCH_MAX = 256
RACES_MAX = 3
QUEUE_RETRY_S = 1.0

_PUBLISHING = (
    select(claims.c.job).where(claims.c.job == jobs.c.id, claims.c.publish_generation.is_not(None)).correlate(jobs)
)
_OLDER = jobs.alias("older")
_FIRST_OF_ITS_DOCUMENT = ~(
    select(_OLDER.c.number)
    .where(
        _OLDER.c.tenant == jobs.c.tenant,
        _OLDER.c.collection == jobs.c.collection,
        _OLDER.c.document == jobs.c.document,
        _OLDER.c.number < jobs.c.number,
        _OLDER.c.due_at_s.is_not(None),
    )
    .correlate(jobs)
    .exists()
)

_RENEWED = update(jobs).where(jobs.c.number == bindparam("of_number"))


class Jobs:
    """See the module.

    Args:
        database: the ledger's.
        lease_s: how long a claimed job is left to its gateway without a renewal.
        queued_max: jobs of one tenant that have not ended; more are refused.
        request_ids_s: how long a request id is remembered.
        clock: Unix seconds; gateways that share a ledger must agree on it to a fraction of `lease_s`.
    """

    def __init__(
        self,
        database: Database,
        *,
        lease_s: float,
        queued_max: int,
        request_ids_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._lease_s = lease_s
        self._queued_max = queued_max
        self._request_ids_s = request_ids_s
        self.clock = clock
        self._accepts = Grouped[NewJob, str](self._accept, batch_max=BATCH_MAX)
        self._ends = Grouped[Ending, bool](self._end, batch_max=BATCH_MAX)

    # ---- acceptance -----------------------------------------------------------------------------------------------

    async def accept(self, job: NewJob) -> str:
        """Queue a document, together with whatever else arrives; its operation, or the one that its request id had before.

        Raises:
            Conflict: the request id stood for something else.
            Overloaded: the tenant's queue is full.
        """
        return await self._accepts.submit(job)

    async def accept_together(self, wanted: Sequence[NewJob]) -> str:
        """Queue the documents of one request, all or none of them; see `accept`."""
        first = wanted[0]
        for _ in range(RACES_MAX):
            try:
                async with self._database.writing() as connection:
                    known = await self._known(connection, [first])
                    if (before := known.get(_request(first))) is not None:
                        return _same(first, before)
                    if await self._room(connection, first.document.tenant) < len(wanted):
                        raise self._full()
                    await self._insert(connection, wanted)
            except IntegrityError:  # the same request came to another gateway at the same moment
                continue
            return first.operation
        raise Conflict("request_id: another call with it is being accepted", field="request_id")

    async def _accept(self, wanted: list[NewJob]) -> list[str | GannetError]:
        for _ in range(RACES_MAX):
            try:
                async with self._database.writing() as connection:
                    return await self._accept_all(connection, wanted)
            except IntegrityError:  # see accept_together
                continue
        return [Conflict("request_id: another call with it is being accepted", field="request_id") for _ in wanted]

    async def _accept_all(self, connection: AsyncConnection, wanted: list[NewJob]) -> list[str | GannetError]:
        known = await self._known(connection, wanted)
        room = {tenant: await self._room(connection, tenant) for tenant in {each.document.tenant for each in wanted}}
        results: list[str | GannetError] = []
        new: list[NewJob] = []
        for each in wanted:
            tenant = each.document.tenant
            before = known.get(_request(each)) if each.request_id else None
            if before is not None:
                try:
                    results.append(_same(each, before))
                except Conflict as error:
                    results.append(error)
            elif room[tenant] <= 0:
                results.append(self._full())
            else:
                room[tenant] -= 1
                known[_request(each)] = each.digest, each.operation
                new.append(each)
                results.append(each.operation)
        if new:
            await self._insert(connection, new)
        return results

    async def _known(
        self, connection: AsyncConnection, wanted: Sequence[NewJob]
    ) -> dict[tuple[str, str], tuple[str, str]]:
        """Digest and operation of the request ids that are remembered."""
        keys = [_request(each) for each in wanted if each.request_id]
        if not keys:
            return {}
        key = (idempotency.c.tenant, idempotency.c.request_id)
        found = tuple_(*key).in_(keys)
        await connection.execute(delete(idempotency).where(found, idempotency.c.expires_at_s <= self.clock()))
        rows = await connection.execute(select(*key, idempotency.c.digest, idempotency.c.operation).where(found))
        return {(tenant, request_id): (digest, operation) for tenant, request_id, digest, operation in rows.all()}

    async def _room(self, connection: AsyncConnection, tenant: str) -> int:
        query = select(func.count()).select_from(jobs).where(jobs.c.tenant == tenant, jobs.c.due_at_s.is_not(None))
        return self._queued_max - (await connection.execute(query)).scalar_one()

    def _full(self) -> Overloaded:
        problem = f"{self._queued_max} documents of this tenant wait already"
        return Overloaded(problem, reason="QUEUE_FULL", retry_after_s=QUEUE_RETRY_S)

    async def _insert(self, connection: AsyncConnection, wanted: Sequence[NewJob]) -> None:
        now = self.clock()
        await connection.execute(insert(jobs), [_row(each, now) for each in wanted])
        requests = {_request(each): each for each in wanted if each.request_id}
        if requests:
            rows = [
                {
                    "tenant": tenant,
                    "request_id": request_id,
                    "digest": each.digest,
                    "operation": each.operation,
                    "expires_at_s": now + self._request_ids_s,
                }
                for (tenant, request_id), each in requests.items()
            ]
            await connection.execute(insert(idempotency), rows)

    # ---- attempts -------------------------------------------------------------------------------------------------

    async def claim(self, holder: str, *, limit: int, bytes_max: int) -> list[Job]:
        """Begin an attempt at up to `limit` due jobs, the same number of each tenant's where they have them, oldest first.

        Of one document only the oldest job that has not ended is due: the last upload is the one that stays. `bytes_max` bounds the
        sum of their uploads; one job is claimed whatever its size.
        """
        now = self.clock()
        due = (jobs.c.due_at_s <= now, _FIRST_OF_ITS_DOCUMENT)
        async with self._database.writing() as connection:
            tenants = (
                (await connection.execute(select(jobs.c.tenant).where(jobs.c.due_at_s <= now).distinct()))
                .scalars()
                .all()
            )
            found: list[list[tuple[int, int]]] = []
            for tenant in tenants:
                query = (
                    select(jobs.c.number, jobs.c.blob_bytes)
                    .where(jobs.c.tenant == tenant, *due)
                    .order_by(jobs.c.due_at_s, jobs.c.number)
                    .limit(limit)
                    .with_for_update(skip_locked=True)
                )
                found.append([(number, size) for number, size in (await connection.execute(query)).all()])
            chosen = _fair(found, limit=limit, bytes_max=bytes_max)
            if not chosen:
                return []
            begun = update(jobs).where(jobs.c.number.in_(chosen))
            await connection.execute(
                begun.values(
                    holder=holder,
                    due_at_s=now + self._lease_s,
                    attempt=jobs.c.attempt + 1,
                    state=JobState.CHUNKING.value,
                    updated_at_s=now,
                )
            )
            rows = await connection.execute(select(jobs).where(jobs.c.number.in_(chosen)).order_by(jobs.c.number))
            return [to_job(row) for row in rows.mappings()]

    async def renew(self, holder: str, progress: Mapping[int, tuple[int, Progress]]) -> dict[int, bool]:
        """Prolong the leases of attempts, {number: (attempt, progress)}, and write down how far they are.

        Returns: those that are still the holder's, with whether somebody asked for their end.
        """
        now = self.clock()
        async with self._database.writing() as connection:
            mine = select(jobs.c.number, jobs.c.attempt, jobs.c.cancelled).where(
                jobs.c.number.in_(list(progress)), jobs.c.holder == holder, jobs.c.ended_at_s.is_(None)
            )
            rows = (await connection.execute(mine.with_for_update(skip_locked=True))).all()
            held = {number: asked for number, attempt, asked in rows if progress[number][0] == attempt}
            if held:
                # One statement many times: a CASE over all of them would be compiled anew each second.
                await connection.execute(_RENEWED, [_renewal(number, progress[number][1]) for number in held])
                await connection.execute(
                    update(jobs)
                    .where(jobs.c.number.in_(list(held)))
                    .values(due_at_s=now + self._lease_s, updated_at_s=now)
                )
        return held

    async def end(self, ending: Ending) -> bool:
        """End an attempt; False if it is not the holder's any more, or a publish is about to end it."""
        return await self._ends.submit(ending)

    async def _end(self, endings: list[Ending]) -> list[bool | GannetError]:
        now = self.clock()
        results: list[bool | GannetError] = []
        ended: list[EndedJob] = []
        async with self._database.writing() as connection:
            for ending in endings:
                values: dict[str, Any] = {
                    "state": ending.state.value,
                    "holder": "",
                    "due_at_s": ending.retry_at_s,
                    "ended_at_s": now if ending.retry_at_s is None else None,
                    "updated_at_s": now,
                    "error": None if ending.error is None else asdict(ending.error),
                    "unchanged": ending.unchanged,
                    "revision": ending.revision,
                    "generation": ending.generation,
                }
                if ending.chunks:
                    values |= {"chunks_total": ending.chunks, "chunks_done": ending.chunks}
                mine = and_(
                    jobs.c.number == ending.job.number,
                    jobs.c.holder == ending.job.holder,
                    jobs.c.attempt == ending.job.attempt,
                    jobs.c.ended_at_s.is_(None),
                    ~_PUBLISHING.exists(),
                )
                changed = await connection.execute(update(jobs).where(mine).values(**values).returning(*ENDED))
                row = changed.mappings().first()
                results.append(row is not None)
                if row is not None and ending.retry_at_s is None:
                    ended.append(EndedJob(**row))
            if ended:
                await operations_ended(connection, ended, now=now)
        return results


def _renewal(number: int, progress: Progress) -> dict[str, Any]:
    return {
        "of_number": number,
        "state": progress.state.value,
        "chunks_total": progress.chunks_total,
        "chunks_done": progress.chunks_done,
        "chunks_cached": progress.chunks_cached,
    }


def _fair(found: Sequence[Sequence[tuple[int, int]]], *, limit: int, bytes_max: int) -> list[int]:
    """Numbers of jobs, (number, bytes) of one tenant each list: one of each tenant in turn, until a limit is reached."""
    chosen: list[int] = []
    size = 0
    for place in range(max(map(len, found), default=0)):
        for number, job_bytes in (jobs_of[place] for jobs_of in found if place < len(jobs_of)):
            if len(chosen) == limit or (chosen and size + job_bytes > bytes_max):
                return chosen
            chosen.append(number)
            size += job_bytes
    return chosen


def _request(job: NewJob) -> tuple[str, str]:
    return job.document.tenant, job.request_id


def _same(job: NewJob, before: tuple[str, str]) -> str:
    digest, operation = before
    if digest != job.digest:
        problem = f"request_id: {job.request_id!r} stood for another request before"
        raise Conflict(problem, field="request_id", reason="REQUEST_ID_REUSED")
    return operation


def _row(job: NewJob, now: float) -> dict[str, Any]:
    name: DocumentName = job.document
    return {
        "id": uuid.uuid4().hex,
        "operation": job.operation,
        "tenant": name.tenant,
        "collection": name.collection,
        "document": name.document,
        "blob": job.blob,
        "blob_bytes": job.blob_bytes,
        "fields": dict(job.fields),
        "state": JobState.QUEUED.value,
        "attempt": 0,
        "holder": "",
        "due_at_s": now,
        "cancelled": False,
        "chunks_total": 0,
        "chunks_done": 0,
        "chunks_cached": 0,
        "revision": 0,
        "generation": 0,
        "unchanged": False,
        "created_at_s": now,
        "updated_at_s": now,
    }
