"""The collections on disk: one Qdrant Edge shard each, in a folder of its own, behind one lock file.

Edge never releases the GIL, so every call here runs on the event loop's thread: threads would add a hand-over and win nothing, and
serial calls need no locks.
"""

import asyncio
import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, TypeVar

import structlog
from qdrant_edge import EdgeShard, UpdateOperation

from gannet_edge.redundant import RedundantConditions
from gannet_edge.schema import CollectionSchema, edge_config
from gannet_edge.validate import Limits, collection_name
from gannet_service.errors import (
    AlreadyExists,
    GannetError,
    InternalError,
    InvalidInput,
    NotFound,
    NotReady,
    Overloaded,
)

if TYPE_CHECKING:
    from qdrant_edge import ShardInfo  # in the stubs only

# How long the first write waits for others to share its flush (5 to 20 ms, during which nothing runs). With 16 writers the median
# acknowledgement took 260 ms without waiting, 35 ms with 3 ms and 21 ms with 5 ms; a single writer noticed no difference.
FLUSH_GATHER_S = 0.005

LOCK_FILE = "lock"
COLLECTIONS_FOLDER = "collections"
SCHEMA_FILE = "collection.json"
SHARD_FOLDER = "shard"
# Folders with this prefix are half made or half deleted; the next start removes them.
UNFINISHED = "."

T = TypeVar("T")

_log: structlog.stdlib.BoundLogger = structlog.get_logger("store")


class StoreError(RuntimeError):
    """The data folder cannot be used: another process has it open, or a collection in it cannot be read."""


class Collection:
    """One open collection. Every method but `durable` is synchronous and blocks for as long as Edge works."""

    def __init__(self, name: str, schema: CollectionSchema, shard: EdgeShard) -> None:
        self.name = name
        self.schema = schema
        self._shard = shard
        self._flushed: asyncio.Future[None] | None = None
        self._broken = ""
        self.redundant = RedundantConditions()
        # Points written or deleted since the last `optimise`; what was stored before the start may need it too.
        self.changed_points = self.info().points_count

    def read(self, ask: Callable[[EdgeShard], T]) -> T:
        """What `ask` gets from the shard.

        Raises:
            InvalidInput: Edge refuses the question.
            NotReady: an earlier failure leaves it uncertain what is on disk; a restart reads it again.
        """
        with self._guard(InvalidInput):
            return ask(self._shard)

    def info(self) -> "ShardInfo":
        """Counts and payload indexes."""
        return self.read(lambda shard: shard.info())

    def write(self, operation: UpdateOperation, *, points: int) -> None:
        """Apply an operation that passed every check and changes about `points` points; it is safe on disk after `durable`.

        Raises:
            InternalError: Edge refused it all the same.
            NotReady: see `read`.
        """
        self.redundant.forget()
        with self._guard(InternalError):
            self._shard.update(operation)
        self.changed_points += points
        if self._flushed is None:
            loop = asyncio.get_running_loop()
            self._flushed = loop.create_future()
            loop.call_later(FLUSH_GATHER_S, self.flush)

    async def durable(self) -> None:
        """Return when everything written so far is on disk; concurrent callers share one flush.

        Raises:
            NotReady: the flush failed.
        """
        if self._flushed is not None:
            await asyncio.shield(self._flushed)
        if self._broken:
            raise NotReady(self._broken)

    def flush(self) -> None:
        """Write everything to disk now and wake those who wait for it."""
        flushed, self._flushed = self._flushed, None
        if flushed is None or flushed.done():
            return
        try:
            self._shard.flush()
        except Exception as error:  # noqa: BLE001 - Edge raises plain Exception
            # After a failed fsync the kernel forgets the dirty pages: a second try could succeed and prove nothing.
            self._break(f"flushing failed: {error}")
        flushed.set_result(None)

    def optimise(self) -> float | None:
        """Close full segments and rewrite those with many deleted points; returns the pause in seconds, None if there was nothing to do."""
        self.flush()
        started = time.monotonic()
        with self._guard(InternalError):
            worked = self._shard.optimize()
            if worked:
                self._shard.flush()
        self.changed_points = 0
        return time.monotonic() - started if worked else None

    def close(self) -> None:
        """Flush and close; the collection is unusable afterwards."""
        self.flush()
        self._broken = f"collection {self.name!r} is closed"
        self._shard.close()

    def _break(self, reason: str) -> None:
        self._broken = f"collection {self.name!r} is out of service until a restart: {reason}"
        _log.critical("collection broken", collection=self.name, reason=reason)

    @contextlib.contextmanager
    def _guard(self, refusal: type[GannetError]) -> Generator[None]:
        if self._broken:
            raise NotReady(self._broken)
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            raise
        except Exception as error:
            if type(error) is not Exception:
                raise  # a bug of ours: everything that Edge itself says no to is a plain Exception
            raise refusal(str(error)) from error
        except BaseException as error:  # a Rust panic is no Exception, and must not take the server down
            self._break(f"Edge panicked: {error}")
            raise InternalError(str(error)) from error


class Store:
    """All collections below one data folder."""

    def __init__(self, data_dir: Path, limits: Limits, segment_points: int, search_threads: int = 1) -> None:
        """Lock the folder, remove what an earlier process left unfinished, and open every collection.

        Raises:
            StoreError: another process has it, or a collection cannot be read.
            OSError: it cannot be created.
        """
        self.limits = limits
        self._edge_config = partial(edge_config, segment_points=segment_points, search_threads=search_threads)
        self._root = data_dir / COLLECTIONS_FOLDER
        self._root.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(data_dir / LOCK_FILE)
        self._open: dict[str, Collection] = {}
        self.used_at = time.monotonic()
        for folder in sorted(self._root.iterdir()):
            if folder.name.startswith(UNFINISHED):
                shutil.rmtree(folder)
            else:
                self._load(folder)

    @property
    def collections(self) -> tuple[Collection, ...]:
        """The open collections, by name."""
        return tuple(self._open[name] for name in sorted(self._open))

    def exists(self, name: str) -> bool:
        """Whether there is a collection called `name`."""
        return name in self._open

    def collection(self, name: str) -> Collection:
        """The collection called `name`; counts as use, so that nothing is optimised now.

        Raises:
            NotFound: there is none.
        """
        self.used_at = time.monotonic()
        found = self._open.get(collection_name(name))
        if found is None:
            raise NotFound(f"collection {name!r} doesn't exist", field="collection_name")
        return found

    def to_write(self, name: str) -> Collection:
        """The collection called `name`, if there is room to write to it.

        Raises:
            NotFound: there is none.
            Overloaded: the disk is nearly full. Edge maps its files into memory, where a full disk kills the process.
        """
        found = self.collection(name)
        self._refuse_full_disk()
        return found

    async def check(self) -> None:
        """A health probe: raises NotReady if a collection is out of service."""
        for collection in self.collections:
            collection.info()

    def create(self, name: str, schema: CollectionSchema) -> None:
        """Create an empty collection, durably and all or nothing.

        Raises:
            AlreadyExists: the name is taken.
            Overloaded: `limits.collections` are there already, or the disk is nearly full.
        """
        folder = self._root / collection_name(name)
        if name in self._open:
            raise AlreadyExists(f"collection {name!r} already exists", field="collection_name")
        if len(self._open) >= self.limits.collections:
            raise Overloaded(f"{self.limits.collections} collections exist already", reason="COLLECTIONS_MAX")
        self._refuse_full_disk()
        unfinished = self._root / f"{UNFINISHED}{name}"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        shard = EdgeShard.create(str(unfinished / SHARD_FOLDER), self._edge_config(schema))
        shard.flush()
        shard.close()
        with (unfinished / SCHEMA_FILE).open("w", encoding="utf-8") as file:
            file.write(schema.to_json())
            file.flush()
            os.fsync(file.fileno())
        _sync_folder(unfinished)
        unfinished.rename(folder)
        _sync_folder(self._root)
        self._load(folder)
        _log.info("collection created", collection=name)

    def delete(self, name: str) -> bool:
        """Delete a collection and its files; False if there was none."""
        collection = self._open.pop(collection_name(name), None)
        if collection is None:
            return False
        collection.close()
        unfinished = self._root / f"{UNFINISHED}{name}"
        (self._root / name).rename(unfinished)
        _sync_folder(self._root)
        shutil.rmtree(unfinished)
        _log.info("collection deleted", collection=name)
        return True

    def close(self) -> None:
        """Flush and close everything, and let the next process in."""
        for collection in self.collections:
            collection.close()
        self._open.clear()
        self._lock.close()

    def _refuse_full_disk(self) -> None:
        free_bytes = shutil.disk_usage(self._root).free
        if free_bytes < self.limits.disk_free_bytes:
            raise Overloaded(
                f"{free_bytes} bytes are free on the disk, {self.limits.disk_free_bytes} are needed to write",
                reason="DISK_FULL",
            )

    def _load(self, folder: Path) -> None:
        started = time.monotonic()
        try:
            schema = CollectionSchema.from_json((folder / SCHEMA_FILE).read_text(encoding="utf-8"))
            # The settings are given again, so that a changed segment size takes effect.
            shard = EdgeShard.load(str(folder / SHARD_FOLDER), self._edge_config(schema))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # Edge raises plain Exception, and panics are not even that
            raise StoreError(f"{folder}: cannot read the collection: {error}") from error
        collection = self._open[folder.name] = Collection(folder.name, schema, shard)
        _log.info(
            "collection loaded",
            collection=folder.name,
            points=collection.changed_points,
            duration_s=round(time.monotonic() - started, 3),
        )


def _lock(path: Path) -> TextIO:
    """Take the lock that the operating system drops with the process, however it ends."""
    file = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        owner = file.read().strip() or "unknown"
        file.close()
        raise StoreError(f"{path.parent} is in use by another process (pid {owner})") from error
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def _sync_folder(folder: Path) -> None:
    """Make renames in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
