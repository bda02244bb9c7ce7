"""What the caches count."""

from prometheus_client import Counter, Gauge, Histogram

lookups = Counter("gannet_cache_lookups_total", "Keys looked up in a cache.", ["cache", "tier", "outcome"])
local_bytes = Gauge("gannet_cache_local_bytes", "Memory that a cache takes in this process.", ["cache"])
duration_s = Histogram(
    "gannet_cache_duration_seconds",
    "Time from asking a cache to having the value, by the tier that it came from.",
    ["cache", "tier"],
    buckets=(0.00001, 0.0001, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0),
)
shared_duration_s = Histogram(
    "gannet_cache_shared_duration_seconds",
    "Duration of a request to the shared cache, whatever became of it.",
    ["operation"],
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1),
)
shared_failures = Counter("gannet_cache_shared_failures_total", "Requests to the shared cache that failed.", ["error"])
shared_corrupt = Counter(
    "gannet_cache_shared_corrupt_total", "Values of the shared cache that were not what was stored."
)
shared_open = Gauge("gannet_cache_shared_breaker_open", "1 while the shared cache is not asked.")
