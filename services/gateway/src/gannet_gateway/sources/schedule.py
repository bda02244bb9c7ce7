"""When a source runs again."""

from datetime import UTC, datetime

from croniter import CroniterError, croniter

from gannet_gateway.ledger.sources import Source
from gannet_service.errors import InvalidInput

CRON_FIELDS = 5
CRON_CHARACTERS_MAX = 100
INTERVAL_S_MIN, INTERVAL_S_MAX = 60, 366 * 86_400


def check_cron(expression: str, now_s: float) -> str:
    """`expression` if it has five fields and a next time; raises InvalidInput."""
    problem = f"source.cron: {expression[:CRON_CHARACTERS_MAX]!r} is not a cron expression of five fields"
    if len(expression) > CRON_CHARACTERS_MAX or len(expression.split()) != CRON_FIELDS:
        raise InvalidInput(problem, field="source.cron")
    try:
        _after(expression, now_s)
    except CroniterError as error:
        raise InvalidInput(f"{problem} with a next time", field="source.cron") from error
    return expression


def check_interval(seconds: int) -> int:
    """`seconds` within the limits; raises InvalidInput."""
    if not INTERVAL_S_MIN <= seconds <= INTERVAL_S_MAX:
        limits = f"{INTERVAL_S_MIN} to {INTERVAL_S_MAX} seconds"
        raise InvalidInput(f"source.interval: {seconds} s; the limits are {limits}", field="source.interval")
    return seconds


def next_run_at_s(source: Source, now_s: float) -> float | None:
    """When a source is due after a run that has just ended; None where it waits to be asked."""
    if source.cron:
        return _after(source.cron, now_s)
    return now_s + source.interval_s if source.interval_s else None


def _after(expression: str, now_s: float) -> float:
    return float(croniter(expression, datetime.fromtimestamp(now_s, UTC)).get_next(float))
