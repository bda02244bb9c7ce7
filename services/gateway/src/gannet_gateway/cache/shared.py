"""The second tier: a Redis that several gateways share. It may be slow, wrong or gone, and costs no request more than its timeout."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from gannet_gateway.cache import metrics
from gannet_gateway.cache.breaker import Breaker

PREFIX = b"gannet:"
CHECKSUM_BYTES = 8
BATCH_KEYS_MAX = 256
CONNECTIONS_MAX = 32

T = TypeVar("T")

_log: structlog.stdlib.BoundLogger = structlog.get_logger("cache")


class SharedTier:
    """Reads and writes values in Redis; every failure is a miss. `ttl_s` is how long Redis keeps a value."""

    def __init__(self, client: Redis, *, timeout_s: float, ttl_s: float, breaker: Breaker) -> None:
        self._client: Any = client  # its methods are typed as either blocking or not
        self._timeout_s = timeout_s
        self._ttl_ms = max(1, round(ttl_s * 1000))
        self._breaker = breaker

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values, None where there is none. A value that is not what was stored is deleted."""
        values: list[bytes | None] = []
        corrupt: list[bytes] = []
        for at in range(0, len(keys), BATCH_KEYS_MAX):
            batch = keys[at : at + BATCH_KEYS_MAX]
            stored = await self._ask("get", partial(self._client.mget, [PREFIX + key for key in batch]))
            for key, data in zip(batch, stored or [None] * len(batch), strict=True):
                value = None if data is None else _opened(key, data)
                if value is None and data is not None:
                    corrupt.append(PREFIX + key)
                values.append(value)
        if corrupt:
            metrics.shared_corrupt.inc(len(corrupt))
            await self._ask("delete", partial(self._client.unlink, *corrupt))
        return values

    async def put_many(self, values: Mapping[bytes, bytes]) -> None:
        """Store the values, all of them in one round trip a batch."""
        items = list(values.items())
        for at in range(0, len(items), BATCH_KEYS_MAX):
            pipeline = self._client.pipeline(transaction=False)
            for key, value in items[at : at + BATCH_KEYS_MAX]:
                pipeline.set(PREFIX + key, _sealed(key, value), px=self._ttl_ms)
            await self._ask("put", pipeline.execute)

    async def append(self, key: bytes, value: bytes, *, ttl_s: float) -> bool:
        """Add `value` to the end of a list that Redis keeps for `ttl_s` after the last addition; whether it did."""
        pipeline = self._client.pipeline(transaction=True)
        pipeline.rpush(PREFIX + key, _sealed(key, value))
        pipeline.pexpire(PREFIX + key, max(1, round(ttl_s * 1000)))
        return await self._ask("append", pipeline.execute) is not None

    async def read_list(self, key: bytes, start: int) -> list[bytes] | None:
        """A list's values from the place `start` on, up to one that is damaged; None where Redis does not answer."""
        stored = await self._ask("range", partial(self._client.lrange, PREFIX + key, start, -1))
        if stored is None:
            return None
        return list(_before_none(_opened(key, data) for data in stored))

    async def evaluate(self, script: str, keys: Sequence[str], arguments: Sequence[str]) -> bytes | None:
        """What a Lua script gives back; None where Redis does not answer."""
        request = cast("Callable[..., Awaitable[bytes]]", self._client.eval)
        return await self._ask("script", partial(request, script, len(keys), *keys, *arguments))

    async def probe(self) -> None:
        """Raises if Redis does not answer; says so whatever the breaker thinks."""
        await self._client.ping()

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def _ask(self, operation: str, request: Callable[[], Awaitable[T]]) -> T | None:
        """The reply, or None: the breaker is open, the time is up, or Redis refused."""
        if not self._breaker.allows():
            return None
        try:
            with metrics.shared_duration_s.labels(operation).time():
                async with asyncio.timeout(self._timeout_s):
                    reply = await request()
        except (RedisError, OSError, TimeoutError) as error:
            metrics.shared_failures.labels(type(error).__name__).inc()
            was_open = self._breaker.is_open
            self._breaker.failed()
            if self._breaker.is_open and not was_open:
                _log.warning("shared cache is not asked for a while", error=repr(error))
            reply = None
        else:
            if self._breaker.is_open:
                _log.info("shared cache answers again")
            self._breaker.succeeded()
        metrics.shared_open.set(self._breaker.is_open)
        return reply


def connect(url: str, password_file: Path | None, *, timeout_s: float) -> Redis:
    """A client for `redis://`, `rediss://` (TLS) or `unix://`; nothing is sent yet.

    Raises:
        ValueError: the URL is none of these.
        OSError: the password file cannot be read.
    """
    options: dict[str, Any] = {}
    if password_file is not None:
        options["password"] = password_file.read_text(encoding="utf-8").strip()
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS_MAX,
        timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        # Trying again costs a request more than going without.
        retry=Retry(NoBackoff(), 0),
        **options,
    )
    return Redis.from_pool(pool)


def _before_none(values: Iterable[bytes | None]) -> Iterator[bytes]:
    """The values before the first None."""
    for value in values:
        if value is None:
            return
        yield value


def _sealed(key: bytes, value: bytes) -> bytes:
    return _checksum(key, value) + value


def _opened(key: bytes, data: bytes) -> bytes | None:
    value = data[CHECKSUM_BYTES:]
    return value if data[:CHECKSUM_BYTES] == _checksum(key, value) else None


def _checksum(key: bytes, value: bytes) -> bytes:
    """Over the key as well: a value under another's key is as wrong as a damaged one."""
    return hashlib.blake2b(value, digest_size=CHECKSUM_BYTES, key=key[:64]).digest()
