"""The ledger's database: callers who leave in the middle of a transaction, and how commits are noticed."""

import asyncio
import random
from pathlib import Path

from sqlalchemy import text
from unit.gateway.fakes import COLLECTION

from gannet_gateway.ledger.engine import Database, open_database
from gannet_gateway.ledger.ledger import Ledger


async def write(database: Database) -> None:
    async with database.writing() as connection:
        await connection.execute(text("UPDATE collections SET generation = generation"))
        await connection.execute(text("SELECT 1"))


async def test_writers_who_are_cancelled_leave_no_lock_behind(tmp_path: Path):
    """Wherever they were: the next writer would wait for the lock in vain, and fail with `database is locked`."""
    database = await open_database(tmp_path)
    own = random.Random(7)  # noqa: S311 - moments, not secrets
    held: list[BaseException | None] = []  # tracebacks keep the cursors of those who left
    for _ in range(60):
        leaving = [asyncio.create_task(write(database)) for _ in range(3)]
        await asyncio.sleep(own.random() * 0.004)
        for task in leaving:
            task.cancel()
        held += await asyncio.gather(*leaving, return_exceptions=True)
        await write(database)
    assert any(isinstance(error, asyncio.CancelledError) for error in held)
    await database.close()


async def test_version_changes_with_every_commit_and_with_nothing_else(database: Database, ledger: Ledger):
    """SQLite tells of each commit, whichever connection made it; PostgreSQL, which others write to as well, has no such number."""
    before = database.version()
    if database.shared:
        assert before is None
        return
    await ledger.collection(COLLECTION)
    assert database.version() == before
    seen = [before]
    for tenant in ("one", "two"):
        await ledger.add_tenant(tenant)
        seen.append(database.version())
    assert len(set(seen)) == 3
