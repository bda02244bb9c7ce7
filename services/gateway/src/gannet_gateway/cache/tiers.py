"""A cache of two tiers with one computation a key: memory, then Redis, then the computation."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from prometheus_client import Counter

from gannet_gateway.cache import metrics
from gannet_gateway.cache.flight import SingleFlight
from gannet_gateway.cache.local import LocalTier
from gannet_gateway.cache.shared import SharedTier


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """A fresh value; one that is not to be kept goes to whoever waits for it, and nowhere else."""

    value: bytes
    keep: bool = True


class Tier(StrEnum):
    """Where a value came from; `COMPUTED` is from nowhere."""

    LOCAL = "local"
    SHARED = "shared"
    COMPUTED = "computed"


class Cached(NamedTuple):
    """A value and where it came from."""

    value: bytes
    tier: Tier


class TieredCache:
    """Values by key. `name` is its label in the metrics; a tier that is None is left out."""

    def __init__(self, name: str, local: LocalTier | None, shared: SharedTier | None) -> None:
        self._name = name
        self._local = local
        self._shared = shared
        self._flights: SingleFlight[Cached] = SingleFlight()
        # Looked up once: `labels` costs as much as the lookup that it counts.
        self._local_hits, self._local_misses = _outcomes(name, "local")
        self._shared_hits, self._shared_misses = _outcomes(name, "shared")
        self._duration_s = {tier: metrics.duration_s.labels(name, tier) for tier in Tier}

    async def get_or_compute(self, key: bytes, compute: Callable[[], Awaitable[Computed]]) -> Cached:
        """The value of `key`; errors of `compute` are raised to everybody who waited, and not kept."""
        started = time.perf_counter()
        value = self._from_memory(key)
        if value is None:
            cached = await self._flights.run(key, lambda: self._beyond_memory(key, compute))
        else:
            cached = Cached(value, Tier.LOCAL)
        self._duration_s[cached.tier].observe(time.perf_counter() - started)
        return cached

    async def get(self, key: bytes) -> bytes | None:
        """The value of `key` in either tier, for values that are made piece by piece; see `put`."""
        (found,) = await self.find([key])
        return None if found is None else found.value

    async def put(self, key: bytes, value: bytes) -> None:
        """Store in both tiers."""
        await self.keep({key: value})

    async def find(self, keys: Sequence[bytes]) -> list[Cached | None]:
        """The values that are kept in memory or in Redis, which is asked once."""
        found = {key: Cached(value, Tier.LOCAL) for key in keys if (value := self._from_memory(key)) is not None}
        beyond = [key for key in dict.fromkeys(keys) if key not in found]
        for key, value in zip(beyond, await self.get_many(beyond), strict=True):
            if value is not None:
                self._keep(key, value)
                found[key] = Cached(value, Tier.SHARED)
        return [found.get(key) for key in keys]

    async def keep(self, values: Mapping[bytes, bytes]) -> None:
        """Keep values in memory and in Redis."""
        await self.put_many(values)
        for key, value in values.items():
            self._keep(key, value)

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values in Redis, past the memory: for values that come in thousands and would push out what is read often."""
        if self._shared is None or not keys:
            return [None] * len(keys)
        values = await self._shared.get_many(keys)
        hits = sum(value is not None for value in values)
        self._shared_hits.inc(hits)
        self._shared_misses.inc(len(keys) - hits)
        return values

    async def put_many(self, values: Mapping[bytes, bytes]) -> None:
        """Store in Redis, past the memory."""
        if self._shared is not None and values:
            await self._shared.put_many(values)

    async def _beyond_memory(self, key: bytes, compute: Callable[[], Awaitable[Computed]]) -> Cached:
        (value,) = await self.get_many([key])
        if value is not None:
            self._keep(key, value)
            return Cached(value, Tier.SHARED)
        computed = await compute()
        if computed.keep:
            await self.put_many({key: computed.value})
            self._keep(key, computed.value)
        return Cached(computed.value, Tier.COMPUTED)

    def _from_memory(self, key: bytes) -> bytes | None:
        if self._local is None:
            return None
        value = self._local.get(key)
        (self._local_misses if value is None else self._local_hits).inc()
        return value

    def _keep(self, key: bytes, value: bytes) -> None:
        if self._local is not None:
            self._local.put(key, value)
            metrics.local_bytes.labels(self._name).set(self._local.size_bytes)


def _outcomes(cache: str, tier: str) -> tuple[Counter, Counter]:
    return metrics.lookups.labels(cache, tier, "hit"), metrics.lookups.labels(cache, tier, "miss")
