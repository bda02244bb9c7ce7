"""Token buckets: what a tenant may use a second, in bursts of so many seconds' worth."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cachetools import LRUCache

BUCKETS_MAX = 100_000
# A bucket that nobody has used for as long as it takes to fill is full, and needs no row; a second is for clocks.
_LUA = """
local rate, capacity, amount, forced = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1'
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local row = redis.call('HMGET', KEYS[1], 'level', 'at')
local level = capacity
if row[1] then
  level = math.min(capacity, row[1] + math.max(0, now - row[2]) * rate)
end
local needed = math.min(amount, capacity)
if not forced and level < needed then
  return tostring((needed - level) / rate)
end
level = level - amount
redis.call('HSET', KEYS[1], 'level', string.format('%.17g', level), 'at', string.format('%.17g', now))
redis.call('PEXPIRE', KEYS[1], math.ceil((capacity - level) / rate * 1000) + 1000)
return '0'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """`per_s` > 0 flows in each second, up to `capacity`."""

    per_s: float
    capacity: float


class Buckets(Protocol):
    """Buckets by name."""

    async def take(self, name: str, amount: float, rate: Rate, *, forced: bool = False) -> float:
        """Take `amount` and return 0, or take nothing and return the seconds after which it is there.

        More than a bucket holds is taken from a full one, which then owes the rest; `forced` takes in any case, and nothing is refused.
        """
        ...


class LocalBuckets:
    """Buckets of this process; those unused for longest are forgotten. `clock` is monotonic."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rows: LRUCache[str, tuple[float, float]] = LRUCache(BUCKETS_MAX)

    async def take(self, name: str, amount: float, rate: Rate, *, forced: bool = False) -> float:
        """See Buckets."""
        now = self._clock()
        level, at = self._rows.get(name, (rate.capacity, now))
        level = min(rate.capacity, level + (now - at) * rate.per_s)
        needed = min(amount, rate.capacity)
        if not forced and level < needed:
            return (needed - level) / rate.per_s
        self._rows[name] = (level - amount, now)
        return 0.0


# Runs a script with keys and arguments; None where Redis does not answer.
Evaluate = Callable[[str, Sequence[str], Sequence[str]], Awaitable[bytes | None]]


class SharedBuckets:
    """Buckets in Redis, which all gateways share; `local` ones where it does not answer."""

    def __init__(self, evaluate: Evaluate, local: LocalBuckets) -> None:
        self._evaluate = evaluate
        self._local = local

    async def take(self, name: str, amount: float, rate: Rate, *, forced: bool = False) -> float:
        """See Buckets."""
        arguments = [repr(rate.per_s), repr(rate.capacity), repr(amount), "1" if forced else "0"]
        reply = await self._evaluate(_LUA, [f"gannet:bucket:{name}"], arguments)
        if reply is None:
            return await self._local.take(name, amount, rate, forced=forced)
        return float(reply)
