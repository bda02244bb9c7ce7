"""Prompts: templates in versions that never change. Every method is one transaction."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, RowMapping, delete, func, insert, select

from gannet_gateway.ledger.engine import Database
from gannet_gateway.ledger.ledger import in_collection, is_collection
from gannet_gateway.ledger.records import Page
from gannet_gateway.ledger.schema import collections, prompts
from gannet_gateway.names import CollectionName, PromptName
from gannet_service.errors import NotFound, Overloaded


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One version of a prompt: the templates of the system's and of the user's message."""

    name: PromptName
    version: int
    system: str
    user: str
    created_at_s: float


class Prompts:
    """See the module: `versions_max` a collection. `clock` gives Unix seconds."""

    def __init__(self, database: Database, *, versions_max: int, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._versions_max = versions_max
        self._clock = clock

    async def create(self, name: PromptName, *, system: str, user: str) -> Prompt:
        """Keep the next version.

        Raises:
            NotFound: the collection is gone.
            Overloaded: the collection has as many versions as are kept.
        """
        parent, now = name.parent, self._clock()
        async with self._database.writing() as connection:
            # Locked, so that two who count at once make two versions.
            query = select(collections.c.id).where(*is_collection(parent)).with_for_update()
            if (await connection.execute(query)).first() is None:
                raise NotFound(f"{parent} does not exist", field="parent")
            count = select(func.count()).select_from(prompts).where(*in_collection(prompts, parent))
            if (await connection.execute(count)).scalar_one() >= self._versions_max:
                raise Overloaded(f"{self._versions_max} versions are kept in {parent}", reason="PROMPTS_MAX")
            newest = select(func.coalesce(func.max(prompts.c.version), 0)).where(*_named(name))
            version = (await connection.execute(newest)).scalar_one() + 1
            row = {"tenant": name.tenant, "collection": name.collection, "id": name.prompt, "version": version}
            await connection.execute(insert(prompts).values(**row, system=system, user=user, created_at_s=now))
        return Prompt(name=name, version=version, system=system, user=user, created_at_s=now)

    async def find(self, name: PromptName, version: int | None) -> Prompt | None:
        """A version, the newest one without a number; None if there is none."""
        query = select(prompts).where(*_named(name)).order_by(prompts.c.version.desc()).limit(1)
        if version is not None:
            query = query.where(prompts.c.version == version)
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).mappings().first()
        return None if row is None else _prompt(row)

    async def list(self, parent: CollectionName, *, after: str, limit: int) -> Page[Prompt]:
        """The newest version of each prompt whose id is greater than `after`."""
        newest = (
            select(prompts.c.id, func.max(prompts.c.version).label("version"))
            .where(*in_collection(prompts, parent), prompts.c.id > after)
            .group_by(prompts.c.id)
            .order_by(prompts.c.id)
            .limit(limit + 1)
            .subquery()
        )
        query = (
            select(prompts)
            .join(newest, (prompts.c.id == newest.c.id) & (prompts.c.version == newest.c.version))
            .where(*in_collection(prompts, parent))
            .order_by(prompts.c.id)
        )
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).mappings().all()
        items = [_prompt(row) for row in rows[:limit]]
        return Page(items=items, next_after=items[-1].name.prompt if len(rows) > limit else None)

    async def delete(self, name: PromptName) -> None:
        """Remove all versions; raises NotFound."""
        async with self._database.writing() as connection:
            if (await connection.execute(delete(prompts).where(*_named(name)))).rowcount == 0:
                raise NotFound(f"{name} does not exist", field="name")


def _named(name: PromptName) -> tuple[ColumnElement[bool], ...]:
    return (*in_collection(prompts, name.parent), prompts.c.id == name.prompt)


def _prompt(row: RowMapping) -> Prompt:
    name = PromptName(row["tenant"], row["collection"], row["id"])
    fields = ("version", "system", "user", "created_at_s")
    return Prompt(name=name, **{field: row[field] for field in fields})
