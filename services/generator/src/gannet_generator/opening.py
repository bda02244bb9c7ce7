"""The generators that are configured, by the names that requests use."""

from gannet_generator.config import DECODER, EXTRACTIVE, GeneratorConfig
from gannet_generator.decoding import open_decoder
from gannet_generator.extractive.generator import ExtractiveGenerator, Policy
from gannet_generator.generation import Generator
from gannet_generator.scoring import PairScorer
from gannet_generator.upstream.generator import Upstream, UpstreamGenerator
from gannet_generator.upstream.key import KeyFile


async def open_generators(config: GeneratorConfig, scorer: PairScorer) -> dict[str, Generator]:
    """Opens them; the first, which answers requests that name none, is the configured one: bringing another does not make it that.

    Raises:
        OSError: a key file cannot be read.
        ValueError: it holds no key.
    """
    policy = Policy(
        threshold=config.threshold,
        margin=config.margin,
        sentence_bytes_max=config.sentence_bytes_max,
        sentences_scored_max=config.sentences_scored_max,
    )
    generators: dict[str, Generator] = {EXTRACTIVE: ExtractiveGenerator(scorer, policy)}
    for one in config.upstreams:
        generators[one.name] = UpstreamGenerator(
            Upstream(**one.model_dump(exclude={"key_file"})), KeyFile(one.key_file)
        )
    if config.decoder_model:
        generators[DECODER] = await open_decoder(config)
    default = config.default_generator
    return {default: generators[default]} | generators
