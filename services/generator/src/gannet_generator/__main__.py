"""`python -m gannet_generator`: the composition root."""

import asyncio
import sys
from functools import partial

from prometheus_client import Gauge

from gannet.generator.v1.generator_pb2_grpc import add_GeneratorServicer_to_server
from gannet_generator.config import GeneratorConfig
from gannet_generator.limits import Limits
from gannet_generator.opening import open_generators
from gannet_generator.scoring import PairScorer
from gannet_generator.servicer import SERVICE, GeneratorServicer
from gannet_generator.verification import WEIGHTS, Bounds, Verifier
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
    try:
        scorer = PairScorer(_open_encoder(config), queue_requests_max=config.concurrent_rpcs_max)
        generators = await open_generators(config, scorer)
    except (ModelError, OSError, ValueError) as error:
        hint = "; `make models` builds the models" if isinstance(error, ModelError) else ""
        print(f"generator: {error}{hint}", file=sys.stderr)  # noqa: T201 - for who starts it
        raise SystemExit(EXIT_CONFIG) from error
    Gauge("gannet_model_waiting", "Texts that wait for the model.").set_function(lambda: scorer.waiting)
    bounds = Bounds(sentence_bytes_max=config.sentence_bytes_max, sentences_max=config.verify_sentences_max)
    verifier = Verifier(scorer, weights=WEIGHTS, threshold=config.verify_threshold, bounds=bounds)
    limits = Limits(
        sources_max=config.sources_max,
        text_bytes_max=config.text_bytes_max,
        prompt_bytes_max=config.prompt_bytes_max,
        claims_max=config.claims_max,
    )
    servicer = GeneratorServicer(generators, verifier, limits, sentences_max=config.sentences_max)
    await serve(
        config,
        service_names=[SERVICE],
        add=[partial(add_GeneratorServicer_to_server, servicer)],
        health=Health((SERVICE,)),
        close=[*(generator.close for generator in generators.values()), partial(asyncio.to_thread, scorer.close)],
    )


def _open_encoder(config: GeneratorConfig) -> CrossEncoder:
    """The model, built first where it is not."""
    sessions = config.sessions or max(1, cores_available() // config.threads)
    entry = load_manifest(config.manifest).entry(config.model)
    built = ensure_built(entry, config.precision or None, config.models_dir)
    return CrossEncoder.open(built, sessions=sessions, threads=config.threads, queue_max=config.queue_texts_max)


if __name__ == "__main__":
    run(main)
