"""What runs beside the calls: renewing leases, recovering what others left behind, collecting what no reader sees any more."""

import asyncio

import structlog

from gannet_gateway.documents.ingest import Ingester, Stores
from gannet_gateway.documents.publisher import Publisher
from gannet_gateway.ledger.retention import Floor, Retention
from gannet_gateway.vectors.points import qdrant_collection
from gannet_service.errors import GannetError

RECOVERY_PERIOD_S = 15.0
START_PERIOD_S = 0.5
RENEWALS_A_LEASE = 3

_log: structlog.stdlib.BoundLogger = structlog.get_logger("upkeep")


class Collector:
    """Throws away what no reader sees any more.

    Args:
        stores: where passages and texts are deleted.
        retention: which generations are readable.
        retention_s: time for which a generation that ended stays readable.
        delay_s: time between giving a generation up and deleting its passages: longer than any read takes.
        kept: earlier revisions of a document whose texts are kept, for rollbacks.
    """

    def __init__(self, stores: Stores, retention: Retention, *, retention_s: float, delay_s: float, kept: int) -> None:
        self._index = stores.index
        self._blobs = stores.blobs
        self._retention = retention
        self._retention_s = retention_s
        self._delay_s = delay_s
        self._kept = kept

    async def collect(self) -> None:
        """Delete what is below the floors that were raised long enough ago, then raise floors.

        Raises:
            GannetError: a store does not answer; try again later.
        """
        for floor in await self._retention.floors_to_collect(delay_s=self._delay_s):
            await self._collect(floor)
        await self._retention.raise_floors(retention_s=self._retention_s)

    async def _collect(self, floor: Floor) -> None:
        name = qdrant_collection(floor.embedding_model, floor.embedding_model_digest)
        await self._index.delete_below(name, floor.collection, floor.generation)
        await self._retention.mark_collected(floor)
        while old := await self._retention.to_prune(floor.collection, kept=self._kept):
            for document in old:
                await self._blobs.delete(document.name, document.text_key)
            await self._retention.prune(floor.collection, old)


class Upkeep:
    """Runs the above for as long as the gateway does. `alone`: no other gateway shares the ledger."""

    def __init__(
        self,
        stores: Stores,
        ingester: Ingester,
        publisher: Publisher,
        collector: Collector,
        *,
        lease_s: float,
        alone: bool,
    ) -> None:
        self._journal = stores.journal
        self._ledger = stores.ledger
        self._index = stores.index
        self._ingester = ingester
        self._publisher = publisher
        self._collector = collector
        self._lease_s = lease_s
        self._alone = alone

    async def start(self) -> None:
        """Wait for the vector store, check its version, and recover. Cancelled when the server stops before that.

        Raises:
            RuntimeError: the vector store is too old.
        """
        if self._alone:
            await self._journal.abandon_all()
        while True:
            try:
                await self._index.check_version()
                for model, digest in await self._ledger.embedding_models():
                    await self._index.open_to_everyone(qdrant_collection(model, digest))
                await self._ingester.recover()
            except GannetError as error:
                _log.info("waiting for the stores", reason=error.reason, message=error.message)
                await asyncio.sleep(START_PERIOD_S)
            else:
                return

    async def renew(self) -> None:
        """Prolong the leases of all that is in work here, until cancelled."""
        while True:
            await asyncio.sleep(self._lease_s / RENEWALS_A_LEASE)
            holders = self._ingester.holders | self._publisher.holders
            if not holders:
                continue
            try:
                await self._journal.renew(holders)
            except GannetError as error:
                _log.warning("leases not renewed", reason=error.reason, message=error.message)

    async def tidy(self) -> None:
        """Recover and collect now and then, until cancelled: an undo that failed must not wait for a restart."""
        while True:
            await asyncio.sleep(RECOVERY_PERIOD_S)
            try:
                await self._ingester.recover()
                await self._collector.collect()
            except GannetError as error:
                _log.warning("recovery postponed", reason=error.reason, message=error.message)
