"""An ingester over real and faked stores, and a view of all that they hold."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import select
from unit.gateway.fakes import COLLECTION, FakeIndex, collection_record

from gannet_gateway.documents.ingest import Ingester, Stores, Upload
from gannet_gateway.documents.passages import Passages
from gannet_gateway.documents.publisher import Publisher
from gannet_gateway.documents.upkeep import Collector, Upkeep
from gannet_gateway.ledger.engine import Database
from gannet_gateway.ledger.ledger import Ledger
from gannet_gateway.ledger.retention import Retention
from gannet_gateway.ledger.schema import claims
from gannet_gateway.parsing.parser import Held, Parser, WorkerLimits
from gannet_gateway.parsing.text import Limits

NAME = COLLECTION.document("a.md")
RECORD = collection_record()


def upload(content: str = "# A\n\nFirst text.", **fields: Any) -> Upload:
    """A document."""
    defaults = {"name": NAME, "mime_type": "text/markdown", "title": "", "metadata": {}, "create_only": False}
    return Upload(content=Held(content.encode()), **{**defaults, **fields})


def content_of(made: Upload) -> bytes:
    """The bytes of a document in memory."""
    assert isinstance(made.content, Held)
    return made.content.content


def make_parser(**settings: Any) -> Parser:
    """A parser with room enough; settings replace the defaults."""
    defaults = {
        "text_bytes_max": 1 << 20,
        "unpacked_bytes_max": 1 << 20,
        "timeout_s": 30.0,
        "memory_bytes_max": 1 << 30,
    }
    values = defaults | settings
    limits = Limits(text_bytes_max=values["text_bytes_max"], unpacked_bytes_max=values["unpacked_bytes_max"])
    worker_limits = WorkerLimits(timeout_s=values["timeout_s"], memory_bytes_max=values["memory_bytes_max"])
    return Parser(limits, worker_limits, workers_max=values.get("workers_max", 2))


class Ingestion:
    """What one gateway process holds; `timeout_s` is a document's."""

    def __init__(self, stores: Stores, embedder: Any, retention: Retention, *, timeout_s: float) -> None:
        self.stores = stores
        self.embedder = embedder
        self.publisher = Publisher(stores.journal, stores.index, interval_s=0, documents_max=100)
        self.parser = make_parser()
        passages = Passages(embedder, stores.index, timeout_s=timeout_s)
        self.ingester = Ingester(stores, self.parser, passages, self.publisher, timeout_s=timeout_s)
        self.collector = Collector(self.stores, retention, retention_s=0, delay_s=0, kept=1)
        self.upkeep = Upkeep(self.stores, self.ingester, self.publisher, self.collector, lease_s=30, alone=True)

    async def collect(self) -> None:
        """Raise the floors, then collect below them."""
        await self.collector.collect()
        await self.collector.collect()


MakeIngestion = Callable[..., Ingestion]


class State:
    """What is stored of NAME, to compare before and after."""

    def __init__(self, database: Database, ledger: Ledger, index: FakeIndex, root: Path) -> None:
        self._database, self._ledger, self._index, self._root = database, ledger, index, root

    async def read(self) -> dict[str, Any]:
        """The live revision, the passages that readers see and all that there are, the texts, and whether it is claimed."""
        live = await self._ledger.find_document(NAME)
        generation = (await self._ledger.collection_settings(COLLECTION)).generation
        async with self._database.reading() as connection:
            claimed = (await connection.execute(select(claims.c.document))).scalars().all()
        return {
            "revision": live and live.revision,
            "seen": self._index.seen(generation),
            "stored": self._index.revisions(),
            "texts": sorted(path.read_bytes() for path in self._root.rglob("*") if path.is_file()),
            "claims": list(claimed),
        }


def state_of(*texts: bytes) -> dict[str, Any]:
    """The state after writing these texts one after the other, nothing collected."""
    revision = len(texts)
    return {
        "revision": revision or None,
        "seen": {("a.md", revision)} if texts else set(),
        "stored": {("a.md", number) for number in range(1, revision + 1)},
        "texts": sorted(texts),
        "claims": [],
    }
