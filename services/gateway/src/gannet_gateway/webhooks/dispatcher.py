"""Delivers the events that are due, of all webhooks; a receiver that hangs holds up no other."""

import asyncio
import contextlib
import time
from collections import Counter
from dataclasses import dataclass
from http import HTTPStatus

import structlog

from gannet_gateway.backoff import jittered_pause_s
from gannet_gateway.ledger.deliveries import Attempt, Deliveries
from gannet_gateway.webhooks import metrics
from gannet_gateway.webhooks.sender import Sender
from gannet_gateway.webhooks.undelivered import Undelivered
from gannet_service.errors import GannetError

SWEEP_PERIOD_S = 60.0
# What is in work when the gateway stops has had the grace of its calls already.
LAST_WORDS_S = 2.0

_log: structlog.stdlib.BoundLogger = structlog.get_logger("webhooks")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryLimits:
    """Bounds of one gateway's deliveries.

    Attributes:
        in_work_max: posts at once.
        of_receiver_max: those of them to one scheme, host and port.
        retry_s: age of an event, since it was queued, at which it is not tried again.
        pause_initial_s: the pause after the first attempt, doubled by each further one, shortened by up to half at random.
        pause_max_s: the longest pause.
        poll_s: how often the ledger is asked for events that are due.
    """

    in_work_max: int
    of_receiver_max: int
    retry_s: float
    pause_initial_s: float
    pause_max_s: float
    poll_s: float


class Dispatcher:
    """One gateway's share."""

    def __init__(self, deliveries: Deliveries, sender: Sender, limits: DeliveryLimits) -> None:
        self._deliveries = deliveries
        self._sender = sender
        self._limits = limits
        self._running: dict[asyncio.Task[None], str] = {}
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Claim what is due until cancelled; what is in work goes on until `close`."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._sweep())
            while True:
                self._wake.clear()
                claimed = 0
                try:
                    claimed = await self.claim_due()
                except GannetError as error:
                    _log.warning("no events claimed", reason=error.reason, message=error.message)
                if not claimed:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._limits.poll_s):
                            await self._wake.wait()

    async def claim_due(self) -> int:
        """Begin to post what is due, as much as there is room for; how many events that is."""
        room = self._limits.in_work_max - len(self._running)
        if room <= 0:
            return 0
        busy = Counter(self._running.values())
        claimed = await self._deliveries.claim(busy, limit=room, of_receiver_max=self._limits.of_receiver_max)
        for attempt in claimed:
            task = asyncio.create_task(self._deliver(attempt))
            self._running[task] = attempt.receiver
            task.add_done_callback(self._ended)
            metrics.in_work.inc()
        return len(claimed)

    async def idle(self) -> None:
        """Wait for what is in work."""
        if self._running:
            await asyncio.wait(self._running)

    async def close(self) -> None:
        """Cut off what is still in work after a moment; it is delivered again when its lease has ended."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                await self.idle()
        for task in self._running:
            task.cancel()
        await self.idle()

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        metrics.in_work.dec()
        self._wake.set()

    async def _deliver(self, attempt: Attempt) -> None:
        try:
            outcome = await self._post(attempt)
        except GannetError as error:
            # The ledger does not answer. The event is delivered again, perhaps once too often.
            _log.warning("delivery not recorded", delivery=str(attempt.name), reason=error.reason)
        except Exception:  # noqa: BLE001 - the root of a delivery: a bug in one must not end the others
            _log.exception("delivery failed", delivery=str(attempt.name))
        else:
            metrics.attempts.labels(outcome).inc()

    async def _post(self, attempt: Attempt) -> str:
        """Post it and record what became of it."""
        started = time.monotonic()
        try:
            status_code = await self._sender.send(attempt)
        except Undelivered as undelivered:
            return await self._undelivered(attempt, undelivered)
        finally:
            metrics.duration_s.observe(time.monotonic() - started)
        return "delivered" if await self._deliveries.delivered(attempt, status_code) else "lost"

    async def _undelivered(self, attempt: Attempt, undelivered: Undelivered) -> str:
        error, status_code = str(undelivered), undelivered.status_code
        fields = {"delivery": str(attempt.name), "attempt": attempt.number, "error": error}
        if status_code == HTTPStatus.GONE:
            _log.warning("webhook disabled by its receiver", **fields)
            return "gone" if await self._deliveries.gone(attempt, status_code, error) else "lost"
        pause_s = jittered_pause_s(
            attempt.number, initial_s=self._limits.pause_initial_s, max_s=self._limits.pause_max_s
        )
        if self._deliveries.clock() + pause_s > attempt.queued_at_s + self._limits.retry_s:
            _log.warning("event given up", **fields)
            return "failed" if await self._deliveries.fail(attempt, status_code, error) else "lost"
        recorded = await self._deliveries.retry(attempt, status_code, error, pause_s=pause_s)
        return "retried" if recorded else "lost"

    async def _sweep(self) -> None:
        while True:
            try:
                waiting, given_up = await self._deliveries.sweep()
            except GannetError as error:
                _log.warning("deliveries not swept", reason=error.reason, message=error.message)
            else:
                metrics.waiting.set(waiting)
                metrics.given_up.inc(given_up)
            await asyncio.sleep(SWEEP_PERIOD_S)
