"""Puts the parts that store documents together."""

from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from gannet_gateway.blobs.blobs import Blobs
from gannet_gateway.cache.reader import CollectionReader
from gannet_gateway.clients import Embedder
from gannet_gateway.config import GatewayConfig
from gannet_gateway.documents.acceptance import Acceptor
from gannet_gateway.documents.executor import Executor, JobLimits
from gannet_gateway.documents.ingest import Ingester, Stores
from gannet_gateway.documents.outcomes import Outcomes
from gannet_gateway.documents.passages import Passages
from gannet_gateway.documents.publisher import Publisher
from gannet_gateway.documents.sweeper import Sweeper
from gannet_gateway.documents.upkeep import Collector, Upkeep
from gannet_gateway.ledger.engine import Database
from gannet_gateway.ledger.jobs import Jobs
from gannet_gateway.ledger.journal import Journal
from gannet_gateway.ledger.ledger import Ledger
from gannet_gateway.ledger.operations import Operations
from gannet_gateway.ledger.retention import Retention
from gannet_gateway.parsing.parser import Parser, WorkerLimits
from gannet_gateway.parsing.text import Limits
from gannet_gateway.vectors.index import Index


class Ingestion(NamedTuple):
    """What the gateway needs of it."""

    ingester: Ingester
    parser: Parser
    publisher: Publisher
    upkeep: Upkeep
    acceptor: Acceptor
    executor: Executor
    operations: Operations
    outcomes: Outcomes
    sweeper: Sweeper

    @property
    def background(self) -> tuple[Callable[[], Coroutine[Any, Any, None]], ...]:
        """What runs for as long as the server."""
        return (self.upkeep.renew, self.upkeep.tidy, self.executor.run)

    async def close(self) -> None:
        """Give jobs in work back, stop publishing, end the processes."""
        await self.executor.close()
        await self.publisher.close()
        await self.parser.close()


def build(
    config: GatewayConfig, database: Database, *, ledger: Ledger, blobs: Blobs, index: Index, embedder: Embedder
) -> Ingestion:
    """Ingester, publisher and upkeep over one set of stores."""
    stores = Stores(ledger=ledger, journal=Journal(database, lease_s=config.lease_s), blobs=blobs, index=index)
    publisher = Publisher(
        stores.journal, index, interval_s=config.publish_interval_ms / 1000, documents_max=config.publish_documents_max
    )
    passages = Passages(embedder, index, timeout_s=config.ingest_timeout_s)
    parser = Parser(
        Limits(text_bytes_max=config.text_bytes_max, unpacked_bytes_max=config.unpacked_bytes_max),
        WorkerLimits(timeout_s=config.parse_timeout_s, memory_bytes_max=config.parse_memory_bytes_max),
        workers_max=config.parse_workers_max,
    )
    ingester = Ingester(stores, parser, passages, publisher, timeout_s=config.ingest_timeout_s)
    collector = Collector(
        stores,
        Retention(database),
        retention_s=config.snapshot_retention_s,
        delay_s=config.collect_delay_s,
        kept=config.revisions_kept,
    )
    jobs = Jobs(
        database,
        lease_s=config.lease_s,
        queued_max=config.jobs_queued_max,
        request_ids_s=config.request_id_retention_s,
    )
    operations = Operations(database)
    outcomes = Outcomes(operations, poll_s=config.job_poll_s)
    limits = JobLimits(
        in_work_max=config.jobs_in_work_max,
        bytes_max=config.jobs_bytes_in_work_max,
        attempts_max=config.job_attempts_max,
        pause_initial_s=config.job_pause_initial_s,
        pause_max_s=config.job_pause_max_s,
        poll_s=config.job_poll_s,
        lease_s=config.lease_s,
    )
    sweeper = Sweeper(operations, blobs, kept_s=config.operation_retention_s)
    reader = CollectionReader(ledger.collection_settings, database.version)
    executor = Executor(jobs, ingester, reader=reader, blobs=blobs, outcomes=outcomes, sweeper=sweeper, limits=limits)
    upkeep = Upkeep(stores, ingester, publisher, collector, lease_s=config.lease_s, alone=not database.shared)
    acceptor = Acceptor(jobs, blobs, executor, outcomes)
    return Ingestion(ingester, parser, publisher, upkeep, acceptor, executor, operations, outcomes, sweeper)
