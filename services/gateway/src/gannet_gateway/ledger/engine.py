"""Opens the ledger's database, SQLite or PostgreSQL, and brings its schema up to date."""

import asyncio
import contextlib
import fcntl
import os
import sqlite3
from collections.abc import AsyncGenerator, Generator
from functools import partial
from pathlib import Path
from typing import Any

import aiosqlite
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, event, make_url, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from gannet_service.errors import DependencyUnavailable

BUSY_TIMEOUT_MS = 5000
CONNECTIONS_MAX = 4
TIMEOUT_S = 10.0
# Any fixed number: gateways that start together migrate one after another.
_MIGRATION_LOCK = 0x67616E6E6574


class LedgerLocked(RuntimeError):
    """Another gateway has the SQLite ledger open."""


class Database:
    """Transactions on the ledger's engine. A database that does not answer is a DependencyUnavailable."""

    def __init__(self, engine: AsyncEngine, watch: sqlite3.Connection | None = None) -> None:
        self._engine = engine
        self._watch = watch
        self._reader = engine.execution_options(reading=True)
        # SQLite is opened by one gateway at a time: see `lock`.
        self.shared = engine.dialect.name != "sqlite"
        # SQLite has one writer at a time and lets the others poll, which starved one of 20 for 5 s. Waiting here is fair.
        self._writer = contextlib.nullcontext() if self.shared else asyncio.Lock()

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncGenerator[AsyncConnection]:
        """A transaction that writes nothing."""
        with _unavailable():
            async with self._reader.connect() as connection:
                yield connection

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncGenerator[AsyncConnection]:
        """A transaction, durable when the block has ended; an error in the block takes all of it back."""
        with _unavailable():
            async with self._writer, self._engine.begin() as connection:
                yield connection

    def version(self) -> int | None:
        """A number that changes with every commit, for a few microseconds of this thread; None where there is no such number.

        SQLite keeps one in the memory that its connections share, and tells of every commit but this connection's own, which makes none.
        """
        if self._watch is None:
            return None
        try:
            return int(self._watch.execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.Error:  # busy: whoever asked reads what is there
            return None

    async def close(self) -> None:
        """Close every connection."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        await self._engine.dispose()


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


async def open_database(
    folder: Path, url: str = "", *, connections_max: int = CONNECTIONS_MAX, timeout_s: float = TIMEOUT_S
) -> Database:
    """The PostgreSQL ledger at `url`, or the SQLite ledger in `folder`, its schema migrated to the newest.

    Args:
        folder: where SQLite's file is; the caller holds `lock(folder)` then.
        url: `postgresql://user:password@host:port/database`; empty means SQLite.
        connections_max: connections at once; who needs one more waits.
        timeout_s: most time to wait for a connection, and for one statement of PostgreSQL.

    Raises:
        DependencyUnavailable: the database does not answer.
    """
    file = str(folder / "ledger.db")
    # Errors are logged and answered: they quote no parameters, among which are secrets and what documents say.
    pool: dict[str, Any] = {
        "pool_size": connections_max,
        "max_overflow": 0,
        "pool_timeout": timeout_s,
        "hide_parameters": True,
    }
    if url:
        engine = create_async_engine(
            make_url(url).set(drivername="postgresql+asyncpg"),
            connect_args={"timeout": timeout_s, "command_timeout": timeout_s},
            pool_pre_ping=True,
            **pool,
        )
    else:
        engine = create_async_engine(f"sqlite+aiosqlite:///{file}", async_creator=partial(_connect, file), **pool)
        event.listen(engine.sync_engine, "connect", _on_connect)
        event.listen(engine.sync_engine, "begin", _on_begin)
    database = Database(engine, None if url else sqlite3.connect(file, timeout=0, isolation_level=None))
    async with database.writing() as connection:
        if database.shared:
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
        await connection.run_sync(_migrate)
    return database


class _SqliteConnection(aiosqlite.Connection):
    """Takes its open transaction back before it closes.

    SQLAlchemy closes the connection of a caller who was cancelled. SQLite puts that off while a cursor lives, and a traceback may
    hold one for long: until then nobody else could write.
    """

    def stop(self) -> asyncio.Future[Any] | None:
        self._tx.put_nowait((None, self._take_back))
        return super().stop()

    async def close(self) -> None:
        if self._running and self._connection is not None:
            await self._execute(self._take_back)
        await super().close()

    def _take_back(self) -> None:
        if self._connection is not None:
            self._connection.rollback()


async def _connect(file: str) -> aiosqlite.Connection:
    connection = _SqliteConnection(lambda: sqlite3.connect(file, check_same_thread=False), iter_chunk_size=64)
    return await connection


@contextlib.contextmanager
def _unavailable() -> Generator[None]:
    try:
        yield
    except IntegrityError:
        raise
    except (DBAPIError, PoolTimeout, OSError) as error:
        raise DependencyUnavailable(f"ledger: {error}", reason="LEDGER_UNAVAILABLE") from error


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
