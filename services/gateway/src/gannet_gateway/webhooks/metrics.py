"""What webhooks count."""

from prometheus_client import Counter, Gauge, Histogram

attempts = Counter(
    "gannet_webhook_attempts_total",
    "Posts of an event: `delivered`; `retried`, tried again later; `failed`, the last one; `gone`, the receiver wants no more; "
    "`lost`, another gateway's by the time it ended.",
    ["outcome"],
)
duration_s = Histogram(
    "gannet_webhook_attempt_duration_seconds",
    "Duration of a post, whatever became of it.",
    buckets=(0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0),
)
in_work = Gauge("gannet_webhook_attempts_in_work", "Posts that wait for their receivers.")
waiting = Gauge(
    "gannet_webhook_events_waiting",
    "Events of all collections that are not delivered yet; every gateway tells the same.",
)
given_up = Counter("gannet_webhook_events_given_up_total", "Events given up because too many waited for one webhook.")
