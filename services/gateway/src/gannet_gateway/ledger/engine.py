"""Opens the ledger's database and brings its schema up to date."""

import fcntl
import os
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

BUSY_TIMEOUT_MS = 5000
POOL_SIZE = 4


class LedgerLocked(RuntimeError):
    """Another gateway has the SQLite ledger open."""


def lock(folder: Path) -> int:
    """Take the folder for this process; the lock goes with the process. SQLite means one gateway, and this proves it.

    Raises:
        LedgerLocked: another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / "ledger.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise LedgerLocked(f"another gateway is using {folder}") from error
    return descriptor


async def open_engine(folder: Path) -> AsyncEngine:
    """The SQLite ledger in `folder`, its schema migrated to the newest; the caller holds `lock(folder)`."""
    engine = create_async_engine(
        f"sqlite+aiosqlite:///{folder / 'ledger.db'}", pool_size=POOL_SIZE, max_overflow=0, pool_timeout=10
    )
    event.listen(engine.sync_engine, "connect", _on_connect)
    event.listen(engine.sync_engine, "begin", _on_begin)
    async with engine.connect() as connection:
        await connection.run_sync(_migrate)
        await connection.commit()
    return engine


def _on_connect(connection: Any, _record: Any) -> None:
    # The driver's own transactions begin too late (at the first write); ours begin where we say.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={BUSY_TIMEOUT_MS}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _on_begin(connection: Connection) -> None:
    # A transaction that reads first and writes later would fail at the write if another wrote meanwhile.
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _migrate(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
