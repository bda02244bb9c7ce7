"""The first tier: values in this process's memory, bounded by bytes and by time."""

import time
from collections.abc import Callable

from cachetools import TTLCache

# What an entry costs beside its key and value: the two objects' headers, the cache's links and tables; 376 bytes by tracemalloc.
# Rounded up: tables grow in steps.
ENTRY_BYTES = 400


class LocalTier:
    """Keeps the entries that were read last, `bytes_max` in all, each for `ttl_s` seconds."""

    def __init__(self, *, bytes_max: int, ttl_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._entries: TTLCache[bytes, tuple[int, bytes]] = TTLCache(bytes_max, ttl_s, timer=clock, getsizeof=_size)

    @property
    def size_bytes(self) -> int:
        """What the entries take; those that have expired count until the next write."""
        return int(self._entries.currsize)

    def get(self, key: bytes) -> bytes | None:
        """The value, unless it was dropped."""
        entry = self._entries.get(key)
        return None if entry is None else entry[1]

    def put(self, key: bytes, value: bytes) -> None:
        """Keep `value`; one that is larger than the whole cache is not kept."""
        entry = (len(key), value)
        if _size(entry) <= self._entries.maxsize:
            self._entries[key] = entry


def _size(entry: tuple[int, bytes]) -> int:
    key_bytes, value = entry
    return key_bytes + len(value) + ENTRY_BYTES
