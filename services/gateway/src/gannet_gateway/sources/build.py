"""Puts the parts that run sources together."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import httpx

from gannet_gateway.config import GatewayConfig
from gannet_gateway.documents.ingest import Ingester
from gannet_gateway.ledger.engine import Database
from gannet_gateway.ledger.ledger import Ledger
from gannet_gateway.ledger.sources import Sources
from gannet_gateway.sources.files import Files
from gannet_gateway.sources.places import Places
from gannet_gateway.sources.runner import SourceRunner
from gannet_gateway.sources.servicer import SourceServicer


class Sourcing(NamedTuple):
    """What the gateway needs of it."""

    servicer: SourceServicer
    runner: SourceRunner
    close: Callable[[], Awaitable[None]]


def sourcing(config: GatewayConfig, database: Database, *, ledger: Ledger, ingester: Ingester) -> Sourcing:
    """Service and runner over the ledger."""
    places = Places(config.source_roots, config.source_urls)
    client = httpx.AsyncClient(follow_redirects=False, timeout=config.source_timeout_s, trust_env=False)
    sources = Sources(database, lease_s=config.lease_s)
    runner = SourceRunner(
        sources,
        ledger,
        Files(places, client, bytes_max=config.document_bytes_max, timeout_s=config.source_timeout_s),
        ingester,
        poll_s=config.source_poll_s,
        lease_s=config.lease_s,
        in_work_max=config.source_documents_in_work_max,
    )
    return Sourcing(SourceServicer(ledger, sources, places), runner, client.aclose)
