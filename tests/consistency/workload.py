"""Writers, readers and crashes over one collection, drawn from a seed."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from consistency.history import History, State, state_of, text_of
from unit.gateway.fakes import Crash, FakeEmbedder, collection_record
from unit.gateway.ingestion import make_parser

from gannet_gateway.documents.ingest import Ingester, Stores, Upload
from gannet_gateway.documents.passages import Passages
from gannet_gateway.documents.publisher import Publisher
from gannet_gateway.documents.upkeep import Collector, Upkeep
from gannet_gateway.ledger.engine import Database
from gannet_gateway.ledger.journal import Journal
from gannet_gateway.ledger.records import Collection
from gannet_gateway.ledger.retention import Retention
from gannet_gateway.names import CollectionName
from gannet_gateway.parsing.parser import Held
from gannet_gateway.vectors.points import Candidate, Sparse, qdrant_collection
from gannet_gateway.vectors.retriever import Fusion, Retriever, Snapshot, Wanted
from gannet_service.errors import DependencyUnavailable, GannetError, NotFound

LEASE_S = 0.4
COLLECT_DELAY_S = 0.5
UPKEEP_PERIOD_S = 0.05
CALLS_MAX = 150
READS_MIN = 60
DENSE = np.array([1, 1], np.float32)
SPARSE = Sparse(indices=np.array([1], np.uint32), values=np.array([1.0], np.float32))


def drawn(seed: float) -> random.Random:
    """A source of choices that the seed determines."""
    return random.Random(seed)  # noqa: S311 - no secret


class Doomed:
    """A store as a process sees it that dies at some call: from then on no call has any effect."""

    def __init__(self, life: "Life", real: Any) -> None:
        self._life, self._real = life, real

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        return real if name == "vectors_of" else partial(self._life.call, real)


class Life:
    """How many calls to its stores a process has left, and whether the last one still has its effect."""

    def __init__(self, calls: int, *, after: bool) -> None:
        self._calls, self._after = calls, after

    @property
    def over(self) -> bool:
        """The process is dead."""
        return self._calls <= 0

    async def call(self, real: Any, *arguments: Any, **options: Any) -> Any:
        """One call."""
        if self.over:
            raise Crash
        self._calls -= 1
        if self.over and not self._after:
            raise Crash
        result = await real(*arguments, **options)
        if self.over:
            raise Crash
        return result


class Gateway:
    """What one gateway process holds."""

    def __init__(self, stores: Stores, database: Database, life: Life, *, alone: bool) -> None:
        self.life = life
        names = ("ledger", "journal", "blobs", "index")
        doomed = Stores(**{name: Doomed(life, getattr(stores, name)) for name in names})
        self.publisher = Publisher(doomed.journal, doomed.index, interval_s=0, documents_max=4)
        passages = Passages(Doomed(life, FakeEmbedder()), doomed.index, timeout_s=30)
        self.ingester = Ingester(doomed, make_parser(), passages, self.publisher, timeout_s=30)
        self._collector = Collector(
            doomed, Doomed(life, Retention(database)), retention_s=0.2, delay_s=COLLECT_DELAY_S, kept=3
        )
        self.upkeep = Upkeep(doomed, self.ingester, self.publisher, self._collector, lease_s=LEASE_S, alone=alone)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """As a process does."""
        await self.upkeep.start()
        self._tasks = [asyncio.create_task(self.upkeep.renew()), asyncio.create_task(self._tidy())]

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(UPKEEP_PERIOD_S)
            try:
                await self.ingester.recover()
                await self._collector.collect()
            except GannetError:
                continue

    async def stop(self) -> None:
        """Nothing of it runs any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.publisher.close()


class Workload:
    """One run. `gateways` share the ledger; more than one needs an engine that allows it."""

    def __init__(self, seed: int, stores: Stores, database: Database, retriever: Retriever, *, gateways: int) -> None:
        self._random = drawn(seed)
        self._stores = stores
        self._database = database
        self._retriever = retriever
        self._gateways: list[Gateway | None] = [None] * gateways
        self._restarting = asyncio.Lock()
        self.name = CollectionName("acme", f"c{seed}-{'postgres' if database.shared else 'sqlite'}")
        self.history = History()

    async def run(
        self, *, documents: int, operations: int, readers: int, midway: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Write, crash and read; then recover, and compare what was read with what was acknowledged.

        `midway` happens while all of them are at work.
        """
        asyncio.get_running_loop().set_exception_handler(_but_for_crashes)
        await self._stores.ledger.create_collection(collection_record(self.name, chunk_size=100))
        reading = [asyncio.create_task(self._read_on(drawn(self._random.random()))) for _ in range(readers)]
        try:
            async with asyncio.TaskGroup() as tasks:
                for number in range(documents):
                    own = drawn(self._random.random())
                    tasks.create_task(self._write(f"d{number}", operations, own))
                if midway is not None:
                    await self._read_until(READS_MIN // 2)
                    await midway()
                await self._read_until(READS_MIN)
        finally:
            for task in reading:
                task.cancel()
            ended = await asyncio.gather(*reading, return_exceptions=True)
            for gateway in self._gateways:
                if gateway is not None:
                    await gateway.stop()
        for each in ended:
            if not isinstance(each, asyncio.CancelledError) and each is not None:
                raise each
        self.history.check(await self._last())

    async def _last(self) -> State:
        """What is there after everything has been recovered, by a gateway to which every lease has run out."""
        journal = Journal(self._database, lease_s=LEASE_S, clock=lambda: time.time() + 2 * LEASE_S)
        stores = replace(self._stores, journal=journal)
        survivor = Gateway(stores, self._database, Life(10**9, after=True), alone=not self._database.shared)
        await survivor.upkeep.start()
        assert await journal.expired_claims() == []
        assert await journal.expired_publishes() == []
        collection = await self._stores.ledger.collection(self.name)
        seen = await self._search(collection, collection.generation, mode="hybrid")
        assert collection.document_count == len(state_of(seen))
        self.history.read(collection.generation, state_of(seen))
        return state_of(seen)

    async def _gateway(self, slot: int) -> Gateway:
        """The gateway of a slot; a dead one is replaced by a new one, once that has recovered."""
        async with self._restarting:
            gateway = self._gateways[slot]
            while gateway is None or gateway.life.over:
                if gateway is not None:
                    await gateway.stop()
                life = Life(self._random.randint(1, CALLS_MAX), after=self._random.random() < 0.5)
                gateway = Gateway(self._stores, self._database, life, alone=not self._database.shared)
                try:
                    await gateway.start()
                except Crash:
                    continue
            self._gateways[slot] = gateway
            return gateway

    async def _write(self, document: str, operations: int, own: random.Random) -> None:
        versions: dict[int, str] = {}  # by revision
        for number in range(operations):
            gateway = await self._gateway(own.randrange(len(self._gateways)))
            collection = await self._stores.ledger.collection_settings(self.name)
            name = self.name.document(document)
            version: str | None = f"{document}.{number}"
            try:
                kind = own.random()
                if kind < 0.2 and versions:
                    version = None
                    generation = await gateway.ingester.delete(collection, name, "")
                elif kind < 0.4 and versions:
                    revision = own.choice(sorted(versions))
                    version = versions[revision]
                    rolled = await gateway.ingester.rollback(collection, name, revision, "")
                    versions[rolled.revision], generation = version, rolled.gen_from
                else:
                    content = text_of(version or "", own.randint(1, 4)).encode()
                    upload = Upload(
                        name=name,
                        content=Held(content),
                        mime_type="text/markdown",
                        title="",
                        metadata={},
                        create_only=False,
                    )
                    indexed = (await gateway.ingester.index(collection, upload)).document
                    versions[indexed.revision], generation = version or "", indexed.gen_from
            except NotFound:
                continue  # nothing to delete or to roll back to
            except (Crash, GannetError):
                self.history.unknown(document, version)
                versions.clear()  # whether its number is taken is not known
                continue
            self.history.acknowledged(document, version, generation)
            await self._read(generation, own)

    async def _read_on(self, own: random.Random) -> None:
        while True:
            collection = await self._stores.ledger.collection_settings(self.name)
            past = own.randint(collection.gen_floor, collection.generation)
            await self._read(own.choice([collection.generation, past]), own)
            await asyncio.sleep(0.002)

    async def _read_until(self, reads: int) -> None:
        while self.history.reads < reads:
            collection = await self._stores.ledger.collection_settings(self.name)
            await self._read(collection.generation, self._random)

    async def _read(self, generation: int, own: random.Random) -> None:
        try:
            # What takes longer than passages are kept for proves nothing, on a busy machine; the gateway refuses it.
            async with asyncio.timeout(COLLECT_DELAY_S):
                collection = await self._stores.ledger.collection_settings(self.name)
                collection.as_of(generation, "as_of")
                seen = await self._search(collection, generation, mode=own.choice(["dense", "sparse", "hybrid"]))
        except (NotFound, DependencyUnavailable, TimeoutError):  # collected; or the vector store is being restarted
            return
        self.history.read(generation, state_of(seen))

    async def _search(self, collection: Collection, generation: int, *, mode: str) -> list[Candidate]:
        found = await self._retriever.search(
            Snapshot(
                collection=self.name,
                generation=generation,
                qdrant_collection=qdrant_collection(collection.embedding_model, collection.embedding_model_digest),
            ),
            Wanted(
                dense=None if mode == "sparse" else DENSE,
                sparse=None if mode == "dense" else SPARSE,
                fusion=Fusion(k=60, dense_weight=1, sparse_weight=1),
                limit=500,
            ),
        )
        return [one.candidate for one in found]


def _but_for_crashes(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A dead process's tasks end with its crash, and nobody is left to ask them."""
    if not isinstance(context.get("exception"), Crash):
        loop.default_exception_handler(context)
