"""A bounded two-lane executor: interactive work first, bulk work never starved, hopeless work never started."""

import math
import os
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from enum import IntEnum
from typing import Any, Generic, TypeVar, cast

from gannet_inference.errors import DeadlineHopeless, QueueFull

R = TypeVar("R")

# Retry hints outside these bounds help nobody: shorter ones are a busy loop, longer ones outlive the caller's deadline.
_RETRY_AFTER_S_MIN = 0.05
_RETRY_AFTER_S_MAX = 30.0
# Share of a caller's spare time that may be spent waiting. Estimates err, and in a queue that always fills all of that time every
# reply is as likely to come just too late as just in time.
_WAIT_SHARE = 0.7
# Weight of the newest run in the moving average of run times: about the last 20 runs count.
_SMOOTHING = 0.1


class Lane(IntEnum):
    """Which queue work waits in; the lower number goes first."""

    INTERACTIVE = 0
    BULK = 1


class Work(Future[R], Generic[R]):
    """A future that also knows how long it waited and ran; both are valid once it is done.

    Cancelling it before it starts takes it out of the queue at once; a run that has started is finished.

    Attributes:
        queued_s: time from submission to start.
        ran_s: time from start to end.
    """

    def __init__(self, function: Callable[[], R], expected_s: float, deadline_s: float | None) -> None:
        """Keeps what to run; only the executor makes these."""
        super().__init__()
        self.function = function
        self.expected_s = expected_s
        self.deadline_s = deadline_s
        self.submitted_at_s = time.monotonic()
        self.queued_s = 0.0
        self.ran_s = 0.0


class PriorityExecutor:
    """Runs functions on a fixed number of threads, from two bounded queues.

    Interactive work always goes before bulk work, except that bulk work gets at least one of every `bulk_every` starts.
    """

    def __init__(self, *, name: str, threads: int, queue_max: int, bulk_every: int = 8, niceness: int = 0) -> None:
        """Starts the threads.

        Args:
            name: what the threads are called.
            threads: how many functions run at once, >= 1.
            queue_max: how many may wait, both lanes together, >= 1.
            bulk_every: waiting bulk work starts at least once in so many starts, >= 2.
            niceness: steps by which the threads yield to the process's others, 0..19. On Linux; elsewhere threads have none.
        """
        self._queue_max = queue_max
        self._bulk_every = bulk_every
        self._niceness = niceness
        self._changed = threading.Condition()
        # Ordered dicts rather than deques: a caller who leaves is taken out in O(1) and frees its place.
        self._lanes: tuple[OrderedDict[Work[Any], None], ...] = (OrderedDict(), OrderedDict())
        self._expected_s = [0.0, 0.0]
        self._interactive_run = 0
        self._mean_run_s = 0.0
        self._closed = False
        # Daemons, so that a process whose main thread has failed still ends.
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{index}", daemon=True) for index in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """How much work waits in both lanes."""
        return sum(map(len, self._lanes))

    def submit(self, function: Callable[[], R], lane: Lane = Lane.INTERACTIVE) -> Work[R]:
        """Queues one function.

        Raises:
            QueueFull: no place is left.
        """
        return self.submit_all([function], lane)[0]

    def submit_all(
        self,
        functions: Sequence[Callable[[], R]],
        lane: Lane = Lane.INTERACTIVE,
        *,
        expected_s: Sequence[float] = (),
        deadline_s: float | None = None,
    ) -> list[Work[R]]:
        """Queues all of the functions or none.

        Args:
            functions: what to run.
            lane: the queue to wait in.
            expected_s: how long each should run; empty where nobody knows.
            deadline_s: the `time.monotonic()` instant after which nobody wants the results; None for no such instant. Work
                that turns out hopeless while it waits is not started, its result is DeadlineHopeless.

        Raises:
            QueueFull: there are fewer places left than functions, or what waits before them would take too much of the time
                that the deadline leaves.
            DeadlineHopeless: the functions alone would end too late.
        """
        expected_s = expected_s or [0.0] * len(functions)
        batch = [Work(function, run_s, deadline_s) for function, run_s in zip(functions, expected_s, strict=True)]
        with self._changed:
            if self._closed:
                raise RuntimeError("the executor is closed")
            if batch:
                self._check_room(expected_s, lane, deadline_s)
            for work in batch:
                self._lanes[lane][work] = None
            self._expected_s[lane] += sum(expected_s)
            self._changed.notify(len(batch))
        for work in batch:
            work.add_done_callback(self._forget_if_cancelled)
        return batch

    def check_room(self, lane: Lane = Lane.INTERACTIVE, *, deadline_s: float | None = None) -> None:
        """Raises the QueueFull of `submit_all` if one function that takes no time would get it: cheap, and nothing is queued."""
        with self._changed:
            self._check_room([0.0], lane, deadline_s)

    def close(self) -> None:
        """Cancels what waits, lets what runs finish and joins the threads."""
        with self._changed:
            self._closed = True
            waiting = [work for lane in self._lanes for work in lane]
            self._changed.notify_all()
        for work in waiting:
            work.cancel()
        for thread in self._threads:
            thread.join()

    def _forget_if_cancelled(self, work: Future[Any]) -> None:
        if not work.cancelled():
            return
        waiting = cast("Work[Any]", work)
        with self._changed:
            lane = next((lane for lane in Lane if waiting in self._lanes[lane]), None)
            if lane is not None:
                self._take(lane, waiting)
        if lane is not None:
            # Tells `concurrent.futures.wait`; a thread that took the work in the meantime tells it itself.
            work.set_running_or_notify_cancel()

    def _check_room(self, expected_s: Sequence[float], lane: Lane, deadline_s: float | None) -> None:
        """Refuses by count and by time; called under the lock.

        The times leave out what runs now and the share of the other lane: an estimate that errs does so in the caller's favour.
        """
        if self.waiting + len(expected_s) > self._queue_max:
            raise QueueFull(_bounded(self.waiting * self._mean_run_s / len(self._threads)))
        if deadline_s is None:
            return
        own_s = max(sum(expected_s) / len(self._threads), *expected_s)
        left_s = deadline_s - time.monotonic()
        if own_s > left_s:
            raise DeadlineHopeless(own_s, left_s)
        excess_s = sum(self._expected_s[: lane + 1]) / len(self._threads) - _WAIT_SHARE * (left_s - own_s)
        if excess_s > 0:
            raise QueueFull(_bounded(excess_s))

    def _take(self, lane: Lane, work: Work[Any] | None = None) -> Work[Any]:
        """Takes `work`, or the oldest there is, out of a lane; called under the lock."""
        waiting = self._lanes[lane]
        if work is None:
            work = next(iter(waiting))
        del waiting[work]
        # Emptied to zero exactly: sums and differences of many floats drift.
        self._expected_s[lane] = self._expected_s[lane] - work.expected_s if waiting else 0.0
        return work

    def _next(self) -> Work[Any] | None:
        """Waits for work; None once the executor is closed."""
        interactive, bulk = self._lanes
        with self._changed:
            while not (interactive or bulk or self._closed):
                self._changed.wait()
            if self._closed:
                return None
            bulk_is_due = bulk and self._interactive_run >= self._bulk_every - 1
            if interactive and not bulk_is_due:
                self._interactive_run += 1
                return self._take(Lane.INTERACTIVE)
            self._interactive_run = 0
            return self._take(Lane.BULK)

    def _work(self) -> None:
        if self._niceness and sys.platform == "linux":
            # Linux counts niceness by thread, and a new thread has that of the one that started it.
            thread = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + self._niceness)
        while (work := self._next()) is not None:
            started_at_s = time.monotonic()
            if not work.set_running_or_notify_cancel():
                continue
            work.queued_s = started_at_s - work.submitted_at_s
            left_s = math.inf if work.deadline_s is None else work.deadline_s - started_at_s
            if work.expected_s > left_s:
                work.set_exception(DeadlineHopeless(work.expected_s, left_s))
                continue
            try:
                result = work.function()
            except Exception as error:  # noqa: BLE001 - the root of a task: whoever waits for the work gets the error
                work.ran_s = time.monotonic() - started_at_s
                work.set_exception(error)
            else:
                work.ran_s = time.monotonic() - started_at_s
                work.set_result(result)
            with self._changed:
                newest_weight = _SMOOTHING if self._mean_run_s else 1.0
                self._mean_run_s += newest_weight * (work.ran_s - self._mean_run_s)


def _bounded(retry_after_s: float) -> float:
    # In hundredths: refusals of one moment are then equal, and a server that refuses many builds each only once.
    return round(min(max(retry_after_s, _RETRY_AFTER_S_MIN), _RETRY_AFTER_S_MAX), 2)
