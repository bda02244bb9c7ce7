"""What expands queries, over what the gateway has opened."""

from gannet_gateway.cache.build import Caches
from gannet_gateway.clients import Generator
from gannet_gateway.config import GatewayConfig
from gannet_gateway.search.expansion import Expander
from gannet_gateway.tenants.quotas import Quotas


def expanding(config: GatewayConfig, generator: Generator, caches: Caches, quotas: Quotas) -> Expander:
    """An expander whose phrasings are cached, and charged to the tenants that ask for them."""
    return Expander(generator, caches.phrasings, config, quotas.charge_tokens)
