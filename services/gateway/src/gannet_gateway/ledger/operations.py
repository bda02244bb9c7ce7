"""Operations as their callers see them: one job, or the jobs of one import. What is read is whole; what is changed, in one transaction."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gannet_gateway.ledger.engine import Database
from gannet_gateway.ledger.events import ENDED, EndedJob, operations_ended
from gannet_gateway.ledger.job import Job, JobState, to_job
from gannet_gateway.ledger.ledger import in_document
from gannet_gateway.ledger.records import Page
from gannet_gateway.ledger.schema import idempotency, jobs
from gannet_gateway.names import DocumentName
from gannet_service.errors import Conflict, NotFound

SWEPT_MAX = 500
# What failed may be retried, and keeps its upload.
_UPLOAD_NOT_NEEDED = (JobState.SUCCEEDED.value, JobState.CANCELLED.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """The jobs of one request, in the order of acceptance; at least one."""

    id: str
    jobs: tuple[Job, ...]

    @property
    def done(self) -> bool:
        """Every job has ended."""
        return all(job.ended for job in self.jobs)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationFilter:
    """What a list is narrowed to; empty means everything. Of an import, jobs that do not match are left out."""

    collection: str = ""
    state: str = ""


class Operations:
    """See the module. `clock` gives Unix seconds."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    async def get(self, tenant: str, operation: str) -> Operation:
        """One operation; raises NotFound."""
        found = await self.find([operation], tenant)
        if not found:
            raise NotFound(f"tenants/{tenant}/operations/{operation} does not exist", field="name")
        return found[0]

    async def find(self, operations: Sequence[str], tenant: str | None = None) -> list[Operation]:
        """Those of `operations` that there are, of one tenant or of all."""
        query = select(jobs).where(jobs.c.operation.in_(operations)).order_by(jobs.c.number)
        if tenant is not None:
            query = query.where(jobs.c.tenant == tenant)
        async with self._database.reading() as connection:
            return _grouped([to_job(row) for row in (await connection.execute(query)).mappings()])

    async def page(self, tenant: str, wanted: OperationFilter, *, before: int, limit: int) -> Page[Operation]:
        """A tenant's operations, newest first; `before` = 0 begins at the newest."""
        conditions: list[ColumnElement[bool]] = [jobs.c.tenant == tenant]
        if wanted.collection:
            conditions.append(jobs.c.collection == wanted.collection)
        if wanted.state:
            conditions.append(jobs.c.state == wanted.state)
        last = func.max(jobs.c.number)
        newest = select(jobs.c.operation, last).where(*conditions).group_by(jobs.c.operation)
        if before:
            newest = newest.having(last < before)
        newest = newest.order_by(last.desc()).limit(limit + 1)
        async with self._database.reading() as connection:
            chosen = [(operation, number) for operation, number in (await connection.execute(newest)).all()]
            ids = [operation for operation, _ in chosen[:limit]]
            query = select(jobs).where(*conditions, jobs.c.operation.in_(ids)).order_by(jobs.c.number)
            found = {
                each.id: each
                for each in _grouped([to_job(row) for row in (await connection.execute(query)).mappings()])
            }
        items = [found[operation] for operation in ids if operation in found]
        return Page(items=items, next_after=str(chosen[limit - 1][1]) if len(chosen) > limit else None)

    async def cancel(self, tenant: str, operation: str) -> None:
        """End what has not begun, and ask for the end of what has; raises NotFound. What has ended, or is being published, stays."""
        mine = (jobs.c.tenant == tenant, jobs.c.operation == operation)
        async with self._database.writing() as connection:
            if (await connection.execute(select(jobs.c.number).where(*mine).limit(1))).first() is None:
                raise NotFound(f"tenants/{tenant}/operations/{operation} does not exist", field="name")
            await self._cancel(connection, *mine)

    async def cancel_document(self, name: DocumentName) -> None:
        """Cancel what is accepted for a document and not shown yet: a deletion comes after all uploads before it."""
        async with self._database.writing() as connection:
            await self._cancel(connection, *in_document(jobs, name))

    async def erase_document(self, name: DocumentName) -> None:
        """As `cancel_document`; what failed cannot be retried any more either, so that no upload of the document is needed."""
        async with self._database.writing() as connection:
            failed = (*in_document(jobs, name), jobs.c.state == JobState.FAILED.value)
            await connection.execute(update(jobs).where(*failed).values(state=JobState.CANCELLED.value))
            await self._cancel(connection, *in_document(jobs, name))

    async def _cancel(self, connection: AsyncConnection, *which: ColumnElement[bool]) -> None:
        now = self._clock()
        unended = (*which, jobs.c.ended_at_s.is_(None))
        changed = await connection.execute(
            update(jobs)
            .where(*unended, jobs.c.holder == "")
            .values(state=JobState.CANCELLED.value, cancelled=True, due_at_s=None, ended_at_s=now, updated_at_s=now)
            .returning(*ENDED)
        )
        ended = [EndedJob(**row) for row in changed.mappings()]
        await connection.execute(update(jobs).where(*unended).values(cancelled=True))
        if ended:
            await operations_ended(connection, ended, now=now)

    async def retry(self, tenant: str, operation: str) -> Operation:
        """Queue what failed again, with all its attempts before it.

        Raises:
            NotFound: there is no such operation.
            Conflict: nothing of it failed, or its upload is not kept any more.
        """
        mine = (jobs.c.tenant == tenant, jobs.c.operation == operation)
        now = self._clock()
        async with self._database.writing() as connection:
            if (await connection.execute(select(jobs.c.number).where(*mine).limit(1))).first() is None:
                raise NotFound(f"tenants/{tenant}/operations/{operation} does not exist", field="name")
            again = update(jobs).where(
                *mine, jobs.c.ended_at_s.is_not(None), jobs.c.state == JobState.FAILED.value, jobs.c.blob != ""
            )
            queued = await connection.execute(
                again.values(
                    state=JobState.QUEUED.value,
                    attempt=0,
                    cancelled=False,
                    due_at_s=now,
                    ended_at_s=None,
                    updated_at_s=now,
                )
            )
            if queued.rowcount == 0:
                problem = f"tenants/{tenant}/operations/{operation}: nothing of it can be retried"
                raise Conflict(problem, field="name", reason="NOT_RETRYABLE")
        return await self.get(tenant, operation)

    # ---- upkeep ---------------------------------------------------------------------------------------------------

    async def uploads_to_delete(self) -> list[Job]:
        """Ended jobs whose uploaded bytes nobody needs any more."""
        query = (
            select(jobs)
            .where(jobs.c.ended_at_s.is_not(None), jobs.c.blob != "", jobs.c.state.in_(_UPLOAD_NOT_NEEDED))
            .limit(SWEPT_MAX)
        )
        async with self._database.reading() as connection:
            return [to_job(row) for row in (await connection.execute(query)).mappings()]

    async def uploads_deleted(self, gone: Sequence[Job]) -> None:
        """The uploads of these jobs are gone."""
        numbers = [job.number for job in gone]
        async with self._database.writing() as connection:
            statement = update(jobs).where(jobs.c.number.in_(numbers), jobs.c.ended_at_s.is_not(None))
            await connection.execute(statement.values(blob=""))

    async def without_job(self, uploads: Sequence[str]) -> set[str]:
        """Those keys of uploads that no job names."""
        async with self._database.reading() as connection:
            named = (await connection.execute(select(jobs.c.blob).where(jobs.c.blob.in_(uploads)))).scalars()
            return set(uploads) - set(named)

    async def expired(self, *, kept_s: float) -> list[Job]:
        """Jobs that ended longer than `kept_s` ago."""
        query = select(jobs).where(jobs.c.ended_at_s <= self._clock() - kept_s).limit(SWEPT_MAX)
        async with self._database.reading() as connection:
            return [to_job(row) for row in (await connection.execute(query)).mappings()]

    async def forget(self, gone: Sequence[Job]) -> None:
        """Forget ended jobs whose uploads are gone, and request ids that have expired."""
        async with self._database.writing() as connection:
            numbers = [job.number for job in gone]
            await connection.execute(delete(jobs).where(jobs.c.number.in_(numbers), jobs.c.ended_at_s.is_not(None)))
            await connection.execute(delete(idempotency).where(idempotency.c.expires_at_s <= self._clock()))


def _grouped(found: Sequence[Job]) -> list[Operation]:
    by_operation: dict[str, list[Job]] = {}
    for job in found:
        by_operation.setdefault(job.operation, []).append(job)
    return [Operation(id=operation, jobs=tuple(each)) for operation, each in by_operation.items()]
