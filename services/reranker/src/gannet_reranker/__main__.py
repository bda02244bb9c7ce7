"""`python -m gannet_reranker`: the composition root."""

import asyncio
import sys
from functools import partial

from prometheus_client import Gauge

from gannet.reranker.v1.reranker_pb2_grpc import add_RerankerServicer_to_server
from gannet_inference.encoder import CrossEncoder
from gannet_inference.errors import ModelError
from gannet_inference.manifest import load_manifest
from gannet_inference.session import cores_available
from gannet_inference.store import ensure_built
from gannet_reranker.config import RerankerConfig
from gannet_reranker.ranking import PassageRanker
from gannet_reranker.servicer import SERVICE, RerankerServicer
from gannet_reranker.tei import servicer as tei
from gannet_reranker.wire import Limits
from gannet_service import telemetry
from gannet_service.config import EXIT_CONFIG, load
from gannet_service.health import Health
from gannet_service.serve import run, serve


async def main() -> None:
    """Serve until told to stop."""
    config = load(RerankerConfig)
    telemetry.set_up(config)
    sessions = config.sessions or max(1, cores_available() // config.threads)
    encoders = _open(config, sessions)
    rankers = {one.built.name: PassageRanker(one, queue_requests_max=config.concurrent_rpcs_max) for one in encoders}
    Gauge("gannet_model_waiting", "Texts that wait for a model.").set_function(lambda: encoders[0].waiting)
    limits = Limits(
        batch_passages_max=config.batch_texts_max,
        text_bytes_max=config.text_bytes_max,
        windows_max=config.windows_max,
        stream_requests_max=config.stream_requests_max,
    )
    first = rankers[config.model]
    await serve(
        config,
        service_names=[SERVICE, *tei.SERVICES],
        add=[
            partial(add_RerankerServicer_to_server, RerankerServicer(rankers, limits, sessions=sessions)),
            partial(tei.register, ranker=first, limits=limits, concurrent_rpcs_max=config.concurrent_rpcs_max),
        ],
        health=Health((SERVICE,)),
        close=[partial(asyncio.to_thread, ranker.close) for ranker in rankers.values()],
    )


def _open(config: RerankerConfig, sessions: int) -> list[CrossEncoder]:
    """The models, built first where they are not; ends the process where one cannot be had."""
    encoders: list[CrossEncoder] = []
    try:
        manifest = load_manifest(config.manifest)
        for name in dict.fromkeys([config.model, *config.extra_models]):
            built = ensure_built(manifest.entry(name), config.precision or None, config.models_dir)
            encoders.append(
                CrossEncoder.open(
                    built,
                    sessions=sessions,
                    threads=config.threads,
                    queue_max=config.queue_texts_max,
                    beside=encoders[0] if encoders else None,
                )
            )
    except ModelError as error:
        print(f"reranker: {error}; `make models` builds the models", file=sys.stderr)  # noqa: T201 - for who starts it
        raise SystemExit(EXIT_CONFIG) from error
    return encoders


if __name__ == "__main__":
    run(main)
