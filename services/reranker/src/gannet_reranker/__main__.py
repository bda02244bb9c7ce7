"""`python -m gannet_reranker`: the composition root."""

import asyncio
import sys
from dataclasses import asdict
from functools import partial

import structlog
from prometheus_client import Gauge

from gannet.reranker.v1.reranker_pb2_grpc import add_RerankerServicer_to_server
from gannet_inference.encoder import CrossEncoder
from gannet_inference.errors import DeviceUnavailable, ModelError
from gannet_inference.opening import open_encoders
from gannet_inference.placement import Placement, place
from gannet_reranker.config import RerankerConfig
from gannet_reranker.ranking import PassageRanker
from gannet_reranker.servicer import RERANK, SERVICE, RerankerServicer
from gannet_reranker.tei import servicer as tei
from gannet_reranker.wire import Limits
from gannet_service import telemetry
from gannet_service.config import EXIT_CONFIG, load
from gannet_service.health import Health
from gannet_service.serve import run, serve

_log: structlog.stdlib.BoundLogger = structlog.get_logger("reranker")


async def main() -> None:
    """Serve until told to stop."""
    config = load(RerankerConfig)
    telemetry.set_up(config)
    placement, encoders = _open(config)
    rankers = {one.built.name: PassageRanker(one, queue_requests_max=config.concurrent_rpcs_max) for one in encoders}
    Gauge("gannet_model_waiting", "Texts that wait for a model.").set_function(lambda: encoders[0].waiting)
    limits = Limits(
        batch_passages_max=config.batch_texts_max,
        text_bytes_max=config.text_bytes_max,
        windows_max=config.windows_max,
        stream_requests_max=config.stream_requests_max,
    )
    first = rankers[config.model]
    servicer = RerankerServicer(rankers, limits, placement)
    await serve(
        config,
        service_names=[SERVICE, *tei.SERVICES],
        add=[
            partial(add_RerankerServicer_to_server, servicer),
            partial(tei.register, ranker=first, limits=limits, concurrent_rpcs_max=config.concurrent_rpcs_max),
        ],
        health=Health((SERVICE,)),
        check_room={RERANK: servicer.check_room, tei.RERANK: partial(tei.check_room, first)},
        close=[partial(asyncio.to_thread, ranker.close) for ranker in rankers.values()],
    )


def _open(config: RerankerConfig) -> tuple[Placement, list[CrossEncoder]]:
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
            CrossEncoder,
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
        print(f"reranker: {error}{hint}", file=sys.stderr)  # noqa: T201 - for who starts it
        raise SystemExit(EXIT_CONFIG) from error
    _log.info("models open", precisions={one.built.name: one.built.precision for one in encoders}, **asdict(placement))
    return placement, encoders


if __name__ == "__main__":
    run(main)
