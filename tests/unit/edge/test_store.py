import asyncio

import pytest
from qdrant_edge import UpdateOperation

from gannet_edge.schema import CollectionSchema, DenseSchema, SparseSchema, edge_config
from gannet_edge.store import Collection, Store, StoreError
from gannet_edge.validate import Limits
from gannet_service.errors import InternalError, NotFound, NotReady, Overloaded

SCHEMA = CollectionSchema(
    dense={"dense": DenseSchema(size=2, distance="Cosine")}, sparse={"bm25": SparseSchema(idf=False)}
)
NOTHING = UpdateOperation.delete_points([])


class PanicException(BaseException):
    """Like a Rust panic: no Exception."""


class FakeShard:
    """Counts flushes, and fails where it is told to."""

    def __init__(self, *, flush: BaseException | None = None, update: BaseException | None = None) -> None:
        self.flushes = 0
        self.updates = 0
        self._flush = flush
        self._update = update

    def info(self):
        class Info:
            points_count = 0

        return Info()

    def update(self, _operation):
        self.updates += 1
        if self._update is not None:
            raise self._update

    def flush(self):
        self.flushes += 1
        if self._flush is not None:
            raise self._flush


def collection(shard: FakeShard) -> Collection:
    return Collection("chunks", SCHEMA, shard)


async def test_durable_concurrent_writers_share_one_flush():
    """Everything written before the flush runs is covered by it, and later writes get their own."""
    shard = FakeShard()
    opened = collection(shard)

    async def write():
        opened.write(NOTHING, points=1)
        await opened.durable()

    await asyncio.gather(*(write() for _ in range(20)))
    assert (shard.updates, shard.flushes) == (20, 1)
    await write()
    assert shard.flushes == 2


async def test_durable_after_a_failed_flush_is_never_acknowledged():
    """Every waiter is refused, and so is everything after: a second fsync would prove nothing."""
    opened = collection(FakeShard(flush=Exception("disk on fire")))

    async def write():
        opened.write(NOTHING, points=1)
        await opened.durable()

    results = await asyncio.gather(write(), write(), return_exceptions=True)
    assert [type(result) for result in results] == [NotReady, NotReady]
    with pytest.raises(NotReady, match="disk on fire"):
        opened.info()


async def test_write_that_panics_puts_the_collection_out_of_service():
    """A Rust panic does not end the process, and nothing more is written after it."""
    opened = collection(FakeShard(update=PanicException("index out of bounds")))
    with pytest.raises(InternalError):
        opened.write(NOTHING, points=1)
    with pytest.raises(NotReady, match="index out of bounds"):
        opened.write(NOTHING, points=1)


async def test_durable_cancelled_waiter_leaves_the_flush_to_the_others():
    """A caller that gives up does not take the others' acknowledgement with it."""
    shard = FakeShard()
    opened = collection(shard)
    opened.write(NOTHING, points=1)
    first, second = asyncio.create_task(opened.durable()), asyncio.create_task(opened.durable())
    first.cancel()
    await second
    assert (first.cancelled() or first.cancelling(), shard.flushes) == (True, 1)


def test_store_second_opener_is_refused_until_the_first_closes(tmp_path):
    """One data folder, one process."""
    store = Store(tmp_path, Limits(), 1_000)
    with pytest.raises(StoreError, match="in use by another process"):
        Store(tmp_path, Limits(), 1_000)
    store.close()
    Store(tmp_path, Limits(), 1_000).close()


def test_store_create_beyond_the_limit_is_refused(tmp_path):
    """The number of collections is bounded, and deleting one makes room."""
    store = Store(tmp_path, Limits(collections=1), 1_000)
    store.create("one", SCHEMA)
    with pytest.raises(Overloaded, match="1 collections exist already"):
        store.create("two", SCHEMA)
    assert store.delete("one")
    store.create("two", SCHEMA)
    with pytest.raises(NotFound, match="'one' doesn't exist"):
        store.collection("one")
    store.close()


def test_store_on_a_full_disk_creates_nothing(tmp_path):
    """A nearly full disk is refused by name before anything is written."""
    store = Store(tmp_path, Limits(disk_free_bytes=1 << 60), 1_000)
    with pytest.raises(Overloaded, match="bytes are free on the disk"):
        store.create("one", SCHEMA)
    assert not store.exists("one")
    store.close()


async def test_store_check_fails_while_a_collection_is_out_of_service(tmp_path):
    """Health tells the truth about every collection."""
    store = Store(tmp_path, Limits(), 1_000)
    store.create("one", SCHEMA)
    await store.check()
    store.collection("one")._break("disk on fire")
    with pytest.raises(NotReady, match="disk on fire"):
        await store.check()
    store.close()


def test_schema_json_round_trip_is_equal():
    """What is written beside the data is read back unchanged."""
    assert CollectionSchema.from_json(SCHEMA.to_json()) == SCHEMA


def test_edge_searches_on_the_callers_thread_unless_told_otherwise():
    """Edge's own default is a pool that costs a small machine more than the search."""
    schema = CollectionSchema(dense={"dense": DenseSchema(size=4, distance="Cosine")}, sparse={})
    assert edge_config(schema, 1_000).max_search_threads == 1
    assert edge_config(schema, 1_000, 4).max_search_threads == 4
