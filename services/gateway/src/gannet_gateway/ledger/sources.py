"""Sources, their schedules and their runs. Every method is one transaction; one gateway runs a source at a time, under a lease."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, and_, case, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from gannet_gateway.ledger.engine import Database
from gannet_gateway.ledger.events import source_run_ended
from gannet_gateway.ledger.ledger import in_collection, is_collection
from gannet_gateway.ledger.records import Page
from gannet_gateway.ledger.schema import collections, sources
from gannet_gateway.names import CollectionName, SourceName
from gannet_service.errors import AlreadyExists, NotFound, Overloaded

SOURCES_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What became of one run; `failures` are (path, message) of the first files of `failed`."""

    started_at_s: float
    ended_at_s: float = 0.0
    indexed: int = 0
    unchanged: int = 0
    deleted: int = 0
    failed: int = 0
    failures: tuple[tuple[str, str], ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """See sources.proto. Of `directory` and `url`, and of `cron` and `interval_s`, the other is empty."""

    name: SourceName
    directory: str = ""
    url: str = ""
    include: tuple[str, ...] = ()
    mirror: bool = False
    cron: str = ""
    interval_s: int = 0
    created_at_s: float = 0.0
    next_run_at_s: float | None = None
    running: bool = False
    last_run: Run | None = None


class Sources:
    """See the module. `clock` gives Unix seconds; a run whose gateway is silent for `lease_s` is another's to repeat."""

    def __init__(self, database: Database, *, lease_s: float, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._lease_s = lease_s
        self._clock = clock

    async def create(self, source: Source) -> Source:
        """Keep a new source, due at once.

        Raises:
            NotFound: the collection is gone.
            AlreadyExists: the id is taken.
            Overloaded: the collection has SOURCES_MAX.
        """
        name, now = source.name, self._clock()
        async with self._database.writing() as connection:
            # Locked, so that two who count at once do not make one too many.
            query = select(collections.c.id).where(*is_collection(name.parent)).with_for_update()
            if (await connection.execute(query)).first() is None:
                raise NotFound(f"{name.parent} does not exist", field="parent")
            count = select(func.count()).select_from(sources).where(*in_collection(sources, name.parent))
            if (await connection.execute(count)).scalar_one() >= SOURCES_MAX:
                raise Overloaded(f"{name.parent} has {SOURCES_MAX} sources", reason="SOURCES_MAX")
            row: dict[str, Any] = {field: getattr(source, field) for field in _SETTINGS}
            row |= {"tenant": name.tenant, "collection": name.collection, "id": name.source}
            row |= {"include": list(source.include), "created_at_s": now, "next_run_at_s": now, "holder": ""}
            try:
                await connection.execute(insert(sources).values(row))
            except IntegrityError as error:
                raise AlreadyExists(f"{name} exists already", field="source_id") from error
        return await self.get(name)

    async def get(self, name: SourceName) -> Source:
        """One source; raises NotFound."""
        async with self._database.reading() as connection:
            row = (await connection.execute(select(sources).where(*_named(name)))).mappings().first()
        if row is None:
            raise NotFound(f"{name} does not exist", field="name")
        return self._source(row)

    async def list(self, parent: CollectionName, *, after: str, limit: int) -> Page[Source]:
        """Sources of a collection whose id is greater than `after`."""
        query = (
            select(sources)
            .where(*in_collection(sources, parent), sources.c.id > after)
            .order_by(sources.c.id)
            .limit(limit + 1)
        )
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).mappings().all()
        items = [self._source(row) for row in rows[:limit]]
        return Page(items=items, next_after=items[-1].name.source if len(rows) > limit else None)

    async def delete(self, name: SourceName) -> None:
        """Remove a source; raises NotFound."""
        async with self._database.writing() as connection:
            if (await connection.execute(delete(sources).where(*_named(name)))).rowcount == 0:
                raise NotFound(f"{name} does not exist", field="name")

    async def ask(self, name: SourceName) -> None:
        """Make a source due now; raises NotFound."""
        async with self._database.writing() as connection:
            made_due = update(sources).where(*_named(name)).values(next_run_at_s=self._clock())
            if (await connection.execute(made_due)).rowcount == 0:
                raise NotFound(f"{name} does not exist", field="name")

    # ---- runs ---------------------------------------------------------------------------------------------------

    async def claim(self, holder: str) -> Source | None:
        """The source that has been due for longest and that nobody runs; it is `holder`'s to run until the lease ends."""
        now = self._clock()
        free = and_(sources.c.next_run_at_s <= now, or_(sources.c.holder == "", sources.c.lease_until_s < now))
        query = select(sources).where(free).order_by(sources.c.next_run_at_s).limit(1).with_for_update(skip_locked=True)
        async with self._database.writing() as connection:
            row = (await connection.execute(query)).mappings().first()
            if row is None:
                return None
            source = self._source(row)
            taken = update(sources).where(*_named(source.name), free)
            await connection.execute(taken.values(holder=holder, lease_until_s=now + self._lease_s))
        return source

    async def renew(self, name: SourceName, holder: str) -> bool:
        """Prolong the lease; False if the source is gone or another's."""
        renewed = update(sources).where(*_named(name), sources.c.holder == holder)
        async with self._database.writing() as connection:
            done = await connection.execute(renewed.values(lease_until_s=self._clock() + self._lease_s))
            return done.rowcount == 1

    async def finish(self, source: Source, holder: str, run: Run, next_run_at_s: float | None) -> bool:
        """Record a run of `source` as it was claimed; False if the source is gone or another's. Who asked meanwhile gets another run."""
        asked = sources.c.next_run_at_s != source.next_run_at_s
        values = {
            "holder": "",
            "last_run": asdict(run),
            "next_run_at_s": case((asked, sources.c.next_run_at_s), else_=next_run_at_s),
        }
        async with self._database.writing() as connection:
            done = await connection.execute(
                update(sources).where(*_named(source.name), sources.c.holder == holder).values(values)
            )
            if done.rowcount != 1:
                return False
            await source_run_ended(connection, source.name, asdict(run), now=self._clock())
            return True

    def _source(self, row: RowMapping) -> Source:
        settings: dict[str, Any] = {field: row[field] for field in _SETTINGS}
        settings["include"] = tuple(row["include"])
        return Source(
            name=SourceName(row["tenant"], row["collection"], row["id"]),
            created_at_s=row["created_at_s"],
            next_run_at_s=row["next_run_at_s"],
            running=row["holder"] != "" and row["lease_until_s"] > self._clock(),
            last_run=None if row["last_run"] is None else _run(row["last_run"]),
            **settings,
        )


_SETTINGS = ("directory", "url", "include", "mirror", "cron", "interval_s")


def _named(name: SourceName) -> tuple[ColumnElement[bool], ...]:
    return (*in_collection(sources, name.parent), sources.c.id == name.source)


def _run(stored: Mapping[str, Any]) -> Run:
    fields = dict(stored)
    fields["failures"] = tuple((path, message) for path, message in fields["failures"])
    return Run(**fields)
