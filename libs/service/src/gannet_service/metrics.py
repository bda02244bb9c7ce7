"""Metrics that every server has; a service defines its own beside them with `prometheus_client`."""

from prometheus_client import Counter, Gauge, Histogram

# From half a millisecond (a cached search) to half a minute (a long answer).
LATENCY_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)

rpc_duration_s = Histogram(
    "gannet_rpc_duration_seconds", "Duration of served RPCs.", ["method", "code"], buckets=LATENCY_BUCKETS_S
)
rpcs_in_work = Gauge("gannet_rpcs_in_work", "RPCs being served, but those whose callers stream to the server.")
streams_open = Gauge("gannet_streams_open", "RPCs being served whose callers stream to the server.")
client_duration_s = Histogram(
    "gannet_client_rpc_duration_seconds", "Duration of outgoing RPCs.", ["method", "code"], buckets=LATENCY_BUCKETS_S
)
dependency_up = Gauge("gannet_dependency_up", "1 if the dependency answered its last probe.", ["dependency"])
requests_refused = Counter(
    "gannet_requests_refused_total", "Calls refused before anything was done for them.", ["method", "reason"]
)
