"""The caches that the configuration asks for."""

from redis.asyncio import Redis

from gannet_gateway.cache.breaker import Breaker
from gannet_gateway.cache.local import LocalTier
from gannet_gateway.cache.shared import SharedTier, connect
from gannet_gateway.cache.tiers import TieredCache
from gannet_gateway.config import GatewayConfig

# A few hundred bytes each: what generators wrote for some thousands of queries.
PHRASINGS_BYTES_MAX = 4 << 20


class Caches:
    """Caches of vectors, of phrasings, of searches' replies and, where it is on, of answers; `shared` is None without a Redis."""

    def __init__(self, config: GatewayConfig) -> None:
        self.shared = _shared(config)
        self.embeddings = TieredCache("embeddings", _local(config.cache_embeddings_bytes_max, config), self.shared)
        self.phrasings = TieredCache("phrasings", _local(PHRASINGS_BYTES_MAX, config), self.shared)
        self.results = TieredCache("results", _local(config.cache_results_bytes_max, config), self.shared)
        self.answers: TieredCache | None = None
        if config.cache_answers:
            self.answers = TieredCache("answers", _local(config.cache_answers_bytes_max, config), self.shared)

    async def close(self) -> None:
        """Close the connections to Redis."""
        if self.shared is not None:
            await self.shared.close()


def _local(bytes_max: int, config: GatewayConfig) -> LocalTier | None:
    return LocalTier(bytes_max=bytes_max, ttl_s=config.cache_ttl_s) if bytes_max else None


def _shared(config: GatewayConfig) -> SharedTier | None:
    if config.cache_redis_url is None:
        return None
    client: Redis = connect(
        config.cache_redis_url.get_secret_value(),
        config.cache_redis_password_file,
        timeout_s=config.cache_redis_timeout_s,
    )
    breaker = Breaker(failures_max=config.cache_redis_failures_max, open_s=config.cache_redis_pause_s)
    return SharedTier(client, timeout_s=config.cache_redis_timeout_s, ttl_s=config.cache_ttl_s, breaker=breaker)
