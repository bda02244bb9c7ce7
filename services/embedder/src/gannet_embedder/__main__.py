"""`python -m gannet_embedder`: the composition root."""

import asyncio
import sys
from functools import partial

from prometheus_client import Gauge

from gannet.embedder.v1.embedder_pb2_grpc import add_EmbedderServicer_to_server
from gannet_embedder.config import EmbedderConfig
from gannet_embedder.embedding import TextEmbedder
from gannet_embedder.servicer import SERVICE, EmbedderServicer
from gannet_embedder.tei import servicer as tei
from gannet_embedder.wire import Limits
from gannet_inference.encoder import BiEncoder
from gannet_inference.errors import ModelError
from gannet_inference.manifest import load_manifest
from gannet_inference.session import cores_available
from gannet_inference.store import ensure_built
from gannet_lexical.sparse import LANGUAGES
from gannet_service import telemetry
from gannet_service.config import EXIT_CONFIG, load
from gannet_service.health import Health
from gannet_service.serve import run, serve


async def main() -> None:
    """Serve until told to stop."""
    config = load(EmbedderConfig)
    telemetry.set_up(config)
    sessions = config.sessions or max(1, cores_available() // config.threads)
    encoders = _open(config, sessions)
    embedders = {one.built.name: TextEmbedder(one, queue_texts_max=config.queue_texts_max) for one in encoders}
    Gauge("gannet_model_waiting", "Texts that wait for a model.").set_function(lambda: encoders[0].waiting)
    limits = Limits(
        batch_texts_max=config.batch_texts_max,
        text_bytes_max=config.text_bytes_max,
        token_texts_max=config.token_texts_max,
        stream_requests_max=config.stream_requests_max,
        languages=LANGUAGES,
        average_length=config.bm25_average_length,
    )
    first = embedders[config.model]
    await serve(
        config,
        service_names=[SERVICE, *tei.SERVICES],
        add=[
            partial(add_EmbedderServicer_to_server, EmbedderServicer(embedders, limits, sessions=sessions)),
            partial(tei.register, embedder=first, limits=limits, concurrent_rpcs_max=config.concurrent_rpcs_max),
        ],
        health=Health((SERVICE,)),
        close=[partial(asyncio.to_thread, embedder.close) for embedder in embedders.values()],
    )


def _open(config: EmbedderConfig, sessions: int) -> list[BiEncoder]:
    """The models, built first where they are not; ends the process where one cannot be had."""
    encoders: list[BiEncoder] = []
    try:
        manifest = load_manifest(config.manifest)
        for name in dict.fromkeys([config.model, *config.extra_models]):
            built = ensure_built(manifest.entry(name), config.precision or None, config.models_dir)
            encoders.append(
                BiEncoder.open(
                    built,
                    sessions=sessions,
                    threads=config.threads,
                    queue_max=config.queue_texts_max,
                    beside=encoders[0] if encoders else None,
                )
            )
    except ModelError as error:
        print(f"embedder: {error}; `make models` builds the models", file=sys.stderr)  # noqa: T201 - for who starts it
        raise SystemExit(EXIT_CONFIG) from error
    return encoders


if __name__ == "__main__":
    run(main)
