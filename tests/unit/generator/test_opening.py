"""Who answers a request that names no generator."""

import pytest
from fakes.gated_model import GatedSession, cross_encoder

from gannet_generator.config import GeneratorConfig
from gannet_generator.opening import open_generators
from gannet_generator.scoring import PairScorer

UPSTREAMS = [{"base_url": "http://127.0.0.1:9/v1", "model": "wader", "name": name} for name in ("fluent", "other")]


@pytest.mark.parametrize(
    "default, order",
    [("extractive", ["extractive", "fluent", "other"]), ("other", ["other", "extractive", "fluent"])],
)
async def test_generators_begin_with_the_configured_one(default: str, order: list[str]):
    """Bringing an upstream does not make it the default; naming it does."""
    scorer = PairScorer(cross_encoder(GatedSession(pairs=True), queue_max=1), queue_requests_max=1)
    config = GeneratorConfig.model_validate({"upstreams": UPSTREAMS, "default_generator": default})
    generators = await open_generators(config, scorer)
    assert list(generators) == order
    for generator in generators.values():
        await generator.close()
    scorer.close()
