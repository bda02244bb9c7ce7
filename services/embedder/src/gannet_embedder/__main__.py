"""`python -m gannet_embedder`: the composition root."""

import asyncio
import sys
from functools import partial

from prometheus_client import Gauge

from gannet.embedder.v1 import embedder_pb2 as pb
from gannet.embedder.v1.embedder_pb2_grpc import add_EmbedderServicer_to_server
from gannet_embedder.config import EmbedderConfig
from gannet_embedder.embedding import TextEmbedder
from gannet_embedder.servicer import SERVICE, EmbedderServicer
from gannet_embedder.wire import Limits
from gannet_inference.encoder import BiEncoder
from gannet_inference.errors import ModelError
from gannet_inference.manifest import load_manifest
from gannet_inference.session import cores_available
from gannet_inference.sparse import LANGUAGES
from gannet_inference.store import ensure_built
from gannet_service import telemetry
from gannet_service.config import EXIT_CONFIG, load
from gannet_service.health import Health
from gannet_service.serve import run, serve


async def main() -> None:
    """Serve until told to stop."""
    config = load(EmbedderConfig)
    telemetry.set_up(config)
    sessions = config.sessions or max(1, cores_available() // config.threads)
    encoder = _open(config, sessions)
    embedder = TextEmbedder(encoder, queue_texts_max=config.queue_texts_max)
    waiting = Gauge("gannet_model_waiting", "Texts that wait for the model.")
    waiting.set_function(lambda: encoder.waiting)
    limits = Limits(
        batch_texts_max=config.batch_texts_max,
        text_bytes_max=config.text_bytes_max,
        languages=LANGUAGES,
        average_length=config.bm25_average_length,
    )
    info = pb.InfoResponse(
        model=encoder.built.name,
        model_digest=encoder.built.digest,
        precision=encoder.built.precision,
        dim=encoder.built.dim,
        tokens_max=encoder.built.tokens_max,
        batch_texts_max=config.batch_texts_max,
        text_bytes_max=config.text_bytes_max,
        execution_provider=encoder.execution_provider,
        sessions=sessions,
        languages=LANGUAGES,
    )
    await serve(
        config,
        service_names=[SERVICE],
        add=[partial(add_EmbedderServicer_to_server, EmbedderServicer(embedder, limits, info))],
        health=Health((SERVICE,)),
        close=[partial(asyncio.to_thread, embedder.close)],
    )


def _open(config: EmbedderConfig, sessions: int) -> BiEncoder:
    """The model, built first where it is not; ends the process where it cannot be had."""
    try:
        entry = load_manifest(config.manifest).entry(config.model)
        built = ensure_built(entry, config.precision or None, config.models_dir)
        return BiEncoder.open(built, sessions=sessions, threads=config.threads, queue_max=config.queue_texts_max)
    except ModelError as error:
        print(f"embedder: {error}; `make models` builds the models", file=sys.stderr)  # noqa: T201 - for who starts it
        raise SystemExit(EXIT_CONFIG) from error


if __name__ == "__main__":
    run(main)
