"""The gateway's composition root: `python -m gannet_gateway`."""

import sys
from functools import partial

import grpc

from gannet.gateway.v1 import collections_pb2_grpc, documents_pb2_grpc, search_pb2_grpc, tenants_pb2_grpc
from gannet_gateway import clients
from gannet_gateway.answers.build import answering
from gannet_gateway.batching import Batching
from gannet_gateway.blobs.build import open_blobs
from gannet_gateway.cache.build import Caches
from gannet_gateway.cache.embedder import CachedEmbedder
from gannet_gateway.cache.reader import CollectionReader
from gannet_gateway.collections.servicer import CollectionServicer
from gannet_gateway.config import GatewayConfig
from gannet_gateway.documents.build import build
from gannet_gateway.documents.servicer import DocumentServicer
from gannet_gateway.ledger import engine
from gannet_gateway.ledger.ledger import Ledger
from gannet_gateway.operations.servicer import OperationServicer
from gannet_gateway.search.build import expanding
from gannet_gateway.search.clients import Reranker
from gannet_gateway.search.search import Searcher
from gannet_gateway.search.servicer import SearchServicer
from gannet_gateway.sources.build import sourcing
from gannet_gateway.tenants.build import access
from gannet_gateway.vectors.index import Index, connect
from gannet_gateway.vectors.retriever import Retriever
from gannet_gateway.webhooks.build import delivering
from gannet_kernels.warm import compile_all
from gannet_service import telemetry
from gannet_service.config import EXIT_CONFIG, load
from gannet_service.health import Health, Probe, grpc_probe
from gannet_service.serve import run, serve

NAMES = (
    "Search",
    "Answer",
    "Document",
    "Collection",
    "Conversation",
    "Feedback",
    "Prompt",
    "Tenant",
    "Job",
    "Source",
    "Webhook",
)
SERVICES = (*(f"gannet.gateway.v1.{name}Service" for name in NAMES), "google.longrunning.Operations")


async def main() -> None:
    config = load(GatewayConfig)
    telemetry.set_up(config)
    database, _lock = await _open_database(config)
    ledger, blobs = Ledger(database), open_blobs(config)
    qdrant = connect(config.qdrant_url, config.qdrant_api_key, config.search_timeout_s)
    index = Index(qdrant, timeout_s=config.search_timeout_s, replication_factor=config.qdrant_replication_factor)
    caches = Caches(config)
    callers = await access(config, database, caches.shared)
    timeout_s, batching = config.embed_timeout_s, Batching.of(config)
    embedder = CachedEmbedder(config.embedder_target, caches.embeddings, timeout_s=timeout_s, batching=batching)
    reranker = Reranker(config.reranker_target, timeout_s=config.rerank_timeout_s)
    generator = clients.Generator(config.generator_target, timeout_s=config.generate_timeout_s)
    retriever = Retriever(qdrant, timeout_s=config.search_timeout_s, batching=batching)
    searcher = Searcher(embedder, retriever, reranker, config, expanding(config, generator, caches, callers.quotas))
    ingestion = build(config, database, ledger=ledger, blobs=blobs, index=index, embedder=embedder)
    documents = DocumentServicer(ledger, blobs, ingestion, config, retriever=retriever, quotas=callers.quotas)
    sources = sourcing(config, database, ledger=ledger, ingester=ingestion.ingester)
    hooks = delivering(config, database, ledger=ledger)
    collections = CollectionServicer(ledger, ingestion.ingester, embedder, index, config)
    compile_all()
    reader = CollectionReader(ledger.collection_settings, database.version)
    answers = answering(
        config,
        database,
        ledger=ledger,
        reader=reader,
        searcher=searcher,
        generator=generator,
        reranker=reranker,
        caches=caches,
        charge_tokens=callers.quotas.charge_tokens,
    )
    charge = callers.admission.charge_searches
    searches = SearchServicer(reader, searcher, reranker, caches.results, config, charge=charge)
    await serve(
        config,
        service_names=SERVICES,
        add=[
            partial(search_pb2_grpc.add_SearchServiceServicer_to_server, searches),
            partial(documents_pb2_grpc.add_DocumentServiceServicer_to_server, documents),
            partial(collections_pb2_grpc.add_CollectionServiceServicer_to_server, collections),
            partial(tenants_pb2_grpc.add_TenantServiceServicer_to_server, callers.servicer),
            *(one.add_to for one in (OperationServicer(ingestion), sources.servicer, hooks.servicer)),
            *(one.add_to for one in answers.servicers),
        ],
        health=Health(
            SERVICES,
            required={"ledger": ledger.probe, "vectors": index.probe},
            # Without these, searches go on: by BM25, in the first stage's order.
            optional={
                **_probes(embedder=embedder.channel, reranker=reranker.channel, generator=generator.channel),
                "blobs": blobs.probe,
                **({"cache": caches.shared.probe} if caches.shared else {}),
            },
        ),
        authenticate=callers.authenticate,
        admit=callers.admission.admit,
        warm=ingestion.upkeep.start,
        background=[*ingestion.background, sources.runner.run, hooks.dispatcher.run, *callers.background],
        drain=[documents.drain],
        close=[
            *callers.close,
            *(part.close for part in (answers, sources, ingestion, hooks)),
            partial(clients.close, embedder.channel, reranker.channel, generator.channel),
            caches.close,
            qdrant.close,
            ledger.close,
        ],
    )


def _probes(**channels: grpc.aio.Channel) -> dict[str, Probe]:
    return {name: grpc_probe(channel) for name, channel in channels.items()}


async def _open_database(config: GatewayConfig) -> tuple[engine.Database, object]:
    """The ledger's database, and what must be kept for as long as it is open: the lock of SQLite's directory."""
    ledger_url = config.ledger_url.get_secret_value() if config.ledger_url else ""
    try:
        lock = None if ledger_url else engine.lock(config.data_dir)
    except engine.LedgerLocked as error:
        print(f"gateway: {error}", file=sys.stderr)  # noqa: T201 - for whoever started it
        raise SystemExit(EXIT_CONFIG) from error
    database = await engine.open_database(
        config.data_dir,
        ledger_url,
        connections_max=config.ledger_connections_max,
        timeout_s=config.ledger_timeout_s,
    )
    return database, lock


if __name__ == "__main__":
    run(main)
