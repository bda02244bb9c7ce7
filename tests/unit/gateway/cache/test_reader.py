import asyncio

import pytest
from unit.gateway.fakes import COLLECTION, collection_record

from gannet_gateway.cache.reader import CollectionReader
from gannet_gateway.ledger.records import Collection
from gannet_gateway.names import CollectionName
from gannet_service.errors import NotFound


class Pointer:
    """A ledger whose reads take the generation when they begin, and end when they are told to."""

    def __init__(self) -> None:
        self.generation = 1
        self.reads = 0
        self.gate = asyncio.Event()
        self.error: Exception | None = None

    async def read(self, name: CollectionName) -> Collection:
        self.reads += 1
        generation = self.generation
        await self.gate.wait()
        if self.error:
            raise self.error
        return collection_record(name, generation=generation)


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


def ask(reader: CollectionReader) -> "asyncio.Task[Collection]":
    """A request for the collection."""
    return asyncio.ensure_future(reader.collection_settings(COLLECTION))


async def test_reader_never_answers_from_a_read_that_began_before_the_request():
    """A publish between the two is seen."""
    pointer = Pointer()
    reader = CollectionReader(pointer.read)
    early = ask(reader)
    await settle()
    pointer.generation = 2
    late = ask(reader)
    await settle()
    pointer.gate.set()
    assert (await early).generation == 1
    assert (await late).generation == 2


async def test_reader_shares_one_read_among_all_who_were_there_before_it():
    """A hundred requests during a read are one more read."""
    pointer = Pointer()
    reader = CollectionReader(pointer.read)
    first = ask(reader)
    await settle()
    rest = [ask(reader) for _ in range(100)]
    await settle()
    pointer.gate.set()
    await asyncio.gather(first, *rest)
    assert pointer.reads == 2


async def test_reader_goes_on_for_the_others_when_one_leaves():
    """Cancellation is the leaver's alone, of the running read and of the one that waits."""
    pointer = Pointer()
    reader = CollectionReader(pointer.read)
    leaving, staying = ask(reader), ask(reader)
    await settle()
    leaving_next, staying_next = ask(reader), ask(reader)
    await settle()
    leaving.cancel()
    leaving_next.cancel()
    await settle()
    pointer.gate.set()
    assert (await staying).generation == (await staying_next).generation == 1
    assert leaving.cancelled()
    assert leaving_next.cancelled()
    await settle()
    assert not reader._running
    assert not reader._next


async def test_reader_error_is_not_kept():
    """A collection that is made after a failed read is found by the next."""
    pointer = Pointer()
    pointer.gate.set()
    pointer.error = NotFound("no")
    reader = CollectionReader(pointer.read)
    with pytest.raises(NotFound):
        await reader.collection_settings(COLLECTION)
    pointer.error = None
    assert (await reader.collection_settings(COLLECTION)).generation == 1


async def test_reader_reads_again_only_after_a_commit():
    """While the ledger's version stays, what was read is what is there."""
    pointer, version = Pointer(), [1]
    pointer.gate.set()
    reader = CollectionReader(pointer.read, lambda: version[0])
    assert [(await reader.collection_settings(COLLECTION)).generation for _ in range(3)] == [1, 1, 1]
    assert pointer.reads == 1
    pointer.generation, version[0] = 2, 2
    assert (await reader.collection_settings(COLLECTION)).generation == 2


async def test_reader_takes_the_version_before_it_reads():
    """A commit in the middle of a read is not missed: the next request reads again."""
    pointer, version = Pointer(), [1]
    reader = CollectionReader(pointer.read, lambda: version[0])
    early = ask(reader)
    await settle()
    pointer.generation, version[0] = 2, 2
    pointer.gate.set()
    assert (await early).generation == 1
    assert (await reader.collection_settings(COLLECTION)).generation == 2


async def test_reader_without_versions_reads_for_every_request():
    """Another gateway may have published through the same database."""
    pointer = Pointer()
    pointer.gate.set()
    reader = CollectionReader(pointer.read)
    for _ in range(3):
        await reader.collection_settings(COLLECTION)
    assert pointer.reads == 3


async def test_reader_of_a_patient_caller_gives_what_is_young_enough():
    """Up to the age that the caller accepts, counted from before the read began, and no older."""
    pointer, now = Pointer(), [100.0]
    pointer.gate.set()
    reader = CollectionReader(pointer.read, clock=lambda: now[0])
    await reader.collection_settings(COLLECTION)
    pointer.generation, now[0] = 2, 105.0
    assert (await reader.collection_settings(COLLECTION, staleness_s_max=5.0)).generation == 1
    now[0] = 105.1
    assert (await reader.collection_settings(COLLECTION, staleness_s_max=5.0)).generation == 2


async def test_reader_forgets_a_collection_that_is_gone():
    """A failed read leaves nothing behind for patient callers."""
    pointer, version = Pointer(), [1]
    pointer.gate.set()
    reader = CollectionReader(pointer.read, lambda: version[0])
    await reader.collection_settings(COLLECTION)
    pointer.error, version[0] = NotFound("gone"), 2
    for _ in range(2):
        with pytest.raises(NotFound):
            await reader.collection_settings(COLLECTION, staleness_s_max=0.0)
    with pytest.raises(NotFound):
        await reader.collection_settings(COLLECTION, staleness_s_max=60.0)
