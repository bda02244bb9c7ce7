"""`python -m gannet_generator`: the composition root."""

import asyncio
import sys
from functools import partial

from prometheus_client import Gauge

from gannet.generator.v1 import generator_pb2 as pb
from gannet.generator.v1.generator_pb2_grpc import add_GeneratorServicer_to_server
from gannet_generator.answering import ExtractiveGenerator, Policy
from gannet_generator.config import GeneratorConfig
from gannet_generator.servicer import SERVICE, GeneratorServicer
from gannet_generator.wire import Limits
from gannet_inference.encoder import CrossEncoder
from gannet_inference.errors import ModelError
from gannet_inference.manifest import load_manifest
from gannet_inference.session import cores_available
from gannet_inference.store import ensure_built
from gannet_service import telemetry
from gannet_service.config import EXIT_CONFIG, load
from gannet_service.health import Health
from gannet_service.serve import run, serve


async def main() -> None:
    """Serve until told to stop."""
    config = load(GeneratorConfig)
    telemetry.set_up(config)
    encoder = _open(config, config.sessions or max(1, cores_available() // config.threads))
    policy = Policy(
        threshold=config.threshold,
        margin=config.margin,
        sentence_bytes_max=config.sentence_bytes_max,
        sentences_scored_max=config.sentences_scored_max,
    )
    generator = ExtractiveGenerator(encoder, policy, queue_requests_max=config.concurrent_rpcs_max)
    waiting = Gauge("gannet_model_waiting", "Texts that wait for the model.")
    waiting.set_function(lambda: encoder.waiting)
    limits = Limits(sources_max=config.sources_max, text_bytes_max=config.text_bytes_max)
    info = pb.InfoResponse(
        generator="extractive",
        model=encoder.built.name,
        model_digest=encoder.built.digest,
        precision=encoder.built.precision,
        threshold=config.threshold,
        sources_max=config.sources_max,
        text_bytes_max=config.text_bytes_max,
        sentences_max=config.sentences_max,
    )
    await serve(
        config,
        service_names=[SERVICE],
        add=[partial(add_GeneratorServicer_to_server, GeneratorServicer(generator, limits, info))],
        health=Health((SERVICE,)),
        close=[partial(asyncio.to_thread, generator.close)],
    )


def _open(config: GeneratorConfig, sessions: int) -> CrossEncoder:
    """The model, built first where it is not; ends the process where it cannot be had."""
    try:
        entry = load_manifest(config.manifest).entry(config.model)
        built = ensure_built(entry, config.precision or None, config.models_dir)
        return CrossEncoder.open(built, sessions=sessions, threads=config.threads, queue_max=config.queue_texts_max)
    except ModelError as error:
        print(f"generator: {error}; `make models` builds the models", file=sys.stderr)  # noqa: T201 - for who starts it
        raise SystemExit(EXIT_CONFIG) from error


if __name__ == "__main__":
    run(main)
