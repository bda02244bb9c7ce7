"""`python -m gannet_embedder`: the composition root."""

import asyncio
import sys
from dataclasses import asdict
from functools import partial

import structlog
from prometheus_client import Gauge

from gannet.embedder.v1.embedder_pb2_grpc import add_EmbedderServicer_to_server
from gannet_embedder.config import EmbedderConfig
from gannet_embedder.embedding import TextEmbedder
from gannet_embedder.servicer import EMBED, SERVICE, EmbedderServicer
from gannet_embedder.tei import servicer as tei
from gannet_embedder.wire import Limits
from gannet_inference.encoder import BiEncoder
from gannet_inference.errors import DeviceUnavailable, ModelError
from gannet_inference.opening import open_encoders
from gannet_inference.placement import Placement, place
from gannet_lexical.sparse import LANGUAGES
from gannet_service import telemetry
from gannet_service.config import EXIT_CONFIG, load
from gannet_service.health import Health
from gannet_service.serve import run, serve

_log: structlog.stdlib.BoundLogger = structlog.get_logger("embedder")


async def main() -> None:
    """Serve until told to stop."""
    config = load(EmbedderConfig)
    telemetry.set_up(config)
    placement, encoders = _open(config)
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
    servicer = EmbedderServicer(embedders, limits, placement)
    await serve(
        config,
        service_names=[SERVICE, *tei.SERVICES],
        add=[
            partial(add_EmbedderServicer_to_server, servicer),
            partial(tei.register, embedder=first, limits=limits, concurrent_rpcs_max=config.concurrent_rpcs_max),
        ],
        health=Health((SERVICE,)),
        check_room={EMBED: servicer.check_room, tei.EMBED: partial(tei.check_room, first)},
        close=[partial(asyncio.to_thread, embedder.close) for embedder in embedders.values()],
    )


def _open(config: EmbedderConfig) -> tuple[Placement, list[BiEncoder]]:
    """Where the models run, and the models; ends the process where one cannot be had."""
    try:
        placement = place(
            config.device,
            gpu_index=config.gpu_index,
            batch_tokens_max=config.gpu_batch_tokens_max,
            sessions=config.sessions,
            threads=config.threads,
        )
        encoders = open_encoders(
            BiEncoder,
            [config.model, *config.extra_models],
            placement,
            manifest=config.manifest,
            models_dir=config.models_dir,
            precision=config.precision or None,
            queue_max=config.queue_texts_max,
            warn=_log.warning,
        )
    except (ModelError, DeviceUnavailable) as error:
        hint = "; `make models` builds the models" if isinstance(error, ModelError) else ""
        print(f"embedder: {error}{hint}", file=sys.stderr)  # noqa: T201 - for who starts it
        raise SystemExit(EXIT_CONFIG) from error
    _log.info("models open", precisions={one.built.name: one.built.precision for one in encoders}, **asdict(placement))
    return placement, encoders


if __name__ == "__main__":
    run(main)
