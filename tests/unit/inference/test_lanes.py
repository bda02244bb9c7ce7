"""The two-lane executor: order, bounds, cancellation."""

import os
import threading
import time
from concurrent.futures import CancelledError, wait

import pytest

from gannet_inference.errors import DeadlineHopeless, QueueFull
from gannet_inference.lanes import Lane, PriorityExecutor

WAIT_S = 10.0


@pytest.fixture
def gate():
    """An executor of one thread that is held busy until `gate.open` is set; closed afterwards."""
    gate = _Gate()
    yield gate
    gate.open.set()
    gate.executor.close()


class _Gate:
    def __init__(self) -> None:
        self.open = threading.Event()
        self.executor = PriorityExecutor(name="test", threads=1, queue_max=12, bulk_every=4)
        started = threading.Event()
        self.blocker = self.executor.submit(lambda: started.set() or self.open.wait(WAIT_S))
        assert started.wait(WAIT_S)


def test_executor_interactive_work_goes_first_and_bulk_is_not_starved(gate):
    """Interactive work overtakes bulk work, which still gets one of every `bulk_every` starts."""
    order = []
    work = [gate.executor.submit(lambda name=name: order.append(name), Lane.BULK) for name in ("b0", "b1")]
    work += [gate.executor.submit(lambda name=name: order.append(name)) for name in ("i0", "i1", "i2", "i3")]

    gate.open.set()
    for future in work:
        future.result(WAIT_S)

    # The gate itself was the first of the three interactive starts that bulk work waits for at most.
    assert order == ["i0", "i1", "b0", "i2", "i3", "b1"]


def test_executor_threads_yield_to_the_others_of_the_process():
    """The operating system prefers the thread that submits to those that work for it."""
    executor = PriorityExecutor(name="nice", threads=1, queue_max=1, niceness=3)

    theirs = executor.submit(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id())).result(WAIT_S)

    assert theirs == os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) + 3
    executor.close()


def test_executor_lane_keeps_the_order_of_submission(gate):
    """Within a lane, first come is first served."""
    order = []
    work = gate.executor.submit_all([lambda place=place: order.append(place) for place in range(10)], Lane.BULK)

    gate.open.set()
    for future in work:
        future.result(WAIT_S)

    assert list(range(10)) == order


def test_executor_full_queue_refuses_all_of_a_batch(gate):
    """A batch that does not fit whole is refused whole."""
    gate.executor.submit_all([int] * 10)

    with pytest.raises(QueueFull):
        gate.executor.submit_all([int] * 3)

    assert gate.executor.waiting == 10


@pytest.mark.parametrize("mean_run_s,retry_after_s", [(0.0, 0.05), (0.5, 6.0), (60.0, 30.0)])
def test_executor_full_queue_says_when_it_should_have_drained(gate, mean_run_s, retry_after_s):
    """The hint is what waits times the measured run, within bounds."""
    gate.executor.submit_all([int] * 12)
    gate.executor._mean_run_s = mean_run_s

    with pytest.raises(QueueFull) as refusal:
        gate.executor.submit(int)

    assert refusal.value.retry_after_s == pytest.approx(retry_after_s)


def test_executor_cancelled_work_frees_its_place_and_never_runs(gate):
    """A caller who leaves before the start takes the work along."""
    ran = []
    waiting = gate.executor.submit_all([lambda: ran.append(1)] * 12)

    assert all(future.cancel() for future in waiting)
    assert not wait(waiting, WAIT_S).not_done
    assert gate.executor.waiting == 0
    last = gate.executor.submit(lambda: "ran")
    gate.open.set()

    assert last.result(WAIT_S) == "ran"
    assert ran == []


def test_executor_failing_work_gives_its_error_and_the_thread_lives(gate):
    """An exception belongs to whoever waits for the work."""
    gate.open.set()

    with pytest.raises(ZeroDivisionError):
        gate.executor.submit(lambda: 1 / 0).result(WAIT_S)
    assert gate.executor.submit(int).result(WAIT_S) == 0


def test_executor_work_knows_how_long_it_waited_and_ran(gate):
    """Times are there when the work is done, and the wait is counted from submission."""
    waited = gate.executor.submit(int)

    gate.open.set()
    waited.result(WAIT_S)

    assert waited.queued_s > 0
    assert 0 <= waited.ran_s < gate.blocker.ran_s


def test_executor_close_cancels_what_waits_and_refuses_more(gate):
    """After close nothing waits and nothing is accepted; what ran has finished."""
    waiting = gate.executor.submit(int)
    closer = threading.Thread(target=gate.executor.close)
    closer.start()
    with pytest.raises(CancelledError):
        waiting.result(WAIT_S)
    gate.open.set()
    closer.join(WAIT_S)

    assert gate.blocker.result(0) is True
    with pytest.raises(RuntimeError, match="closed"):
        gate.executor.submit(int)


def test_executor_several_threads_run_at_once():
    """As many functions run side by side as there are threads."""
    executor = PriorityExecutor(name="test", threads=3, queue_max=3)
    meeting = threading.Barrier(3, timeout=WAIT_S)

    arrivals = [work.result(WAIT_S) for work in executor.submit_all([meeting.wait] * 3)]
    executor.close()

    assert sorted(arrivals) == [0, 1, 2]


@pytest.mark.parametrize("lane,refused", [(Lane.INTERACTIVE, False), (Lane.BULK, True)])
def test_executor_deadline_that_what_waits_would_exceed_is_refused_at_once(gate, lane, refused):
    """Work counts what goes before it: bulk work waits for both lanes, interactive work for its own alone."""
    gate.executor.submit_all([int] * 2, Lane.BULK, expected_s=[300.0, 300.0])
    deadline_s = time.monotonic() + 400.0

    if refused:
        with pytest.raises(QueueFull):
            gate.executor.submit_all([int], lane, expected_s=[1.0], deadline_s=deadline_s)
    else:
        gate.executor.submit_all([int], lane, expected_s=[1.0], deadline_s=deadline_s)
    assert gate.executor.waiting == (2 if refused else 3)


@pytest.mark.parametrize("before_s,refused", [(2000.0, False), (2200.0, True)])
def test_executor_queue_fills_most_of_the_spare_time_and_never_all_of_it(gate, before_s, refused):
    """Of 4,000 s, work of 1,000 s has 3,000 to spare: 2,100 of them may be spent waiting, the rest is for estimates that err."""
    gate.executor.submit_all([int], expected_s=[before_s])
    deadline_s = time.monotonic() + 4000.0

    if refused:
        with pytest.raises(QueueFull):
            gate.executor.submit_all([int], expected_s=[1000.0], deadline_s=deadline_s)
    else:
        gate.executor.submit_all([int], expected_s=[1000.0], deadline_s=deadline_s)


def test_executor_queue_too_long_for_a_deadline_says_when_it_should_be_short_enough(gate):
    """The hint is the time in which what waits falls below the caller's share; another caller's deadline may still allow it."""
    gate.executor.submit_all([int], expected_s=[100.0])

    with pytest.raises(QueueFull) as refusal:
        gate.executor.submit_all([int], expected_s=[0.0], deadline_s=time.monotonic() + 120.0)

    assert 16.0 <= refusal.value.retry_after_s <= 30.0
    gate.executor.submit_all([int], expected_s=[0.0], deadline_s=time.monotonic() + 1200.0)


def test_executor_work_that_its_deadline_does_not_hold_is_hopeless_without_a_queue(gate):
    """Nothing waits, so coming back later would not help, and the refusal is another one."""
    with pytest.raises(DeadlineHopeless) as refusal:
        gate.executor.submit_all([int] * 2, expected_s=[300.0, 300.0], deadline_s=time.monotonic() + 400.0)

    assert refusal.value.needed_s == pytest.approx(600.0)
    assert 0 < refusal.value.left_s <= 400.0


def test_executor_check_room_refuses_what_submitting_would_and_queues_nothing(gate):
    """By time and by count; work without a deadline is refused by count alone."""
    gate.executor.submit_all([int] * 11, expected_s=[100.0] * 11)
    with pytest.raises(QueueFull):
        gate.executor.check_room(deadline_s=time.monotonic() + 60.0)
    gate.executor.check_room(deadline_s=time.monotonic() + 6000.0)
    gate.executor.check_room()
    gate.executor.submit(int)
    with pytest.raises(QueueFull):
        gate.executor.check_room()
    assert gate.executor.waiting == 12


def test_executor_work_that_became_hopeless_while_it_waited_is_never_started(gate):
    """Its result is DeadlineHopeless, and the work behind it runs."""
    ran = []
    hopeful, behind = (
        gate.executor.submit_all([lambda name=name: ran.append(name)], deadline_s=time.monotonic() + 3600.0)[0]
        for name in ("hopeful", "behind")
    )
    hopeful.expected_s = 7200.0

    gate.open.set()
    behind.result(WAIT_S)

    with pytest.raises(DeadlineHopeless):
        hopeful.result(WAIT_S)
    assert ran == ["behind"]


def test_executor_cancelled_work_no_longer_counts_as_waiting_time(gate):
    """What nobody waits for stands in nobody's way."""
    waiting = gate.executor.submit_all([int] * 3, expected_s=[300.0] * 3)
    for work in waiting[:2]:
        work.cancel()

    gate.executor.submit_all([int], expected_s=[1.0], deadline_s=time.monotonic() + 600.0)

    assert gate.executor.waiting == 2


def test_executor_nothing_to_do_is_never_too_late(gate):
    """A batch without work waits for nobody."""
    gate.executor.submit_all([int], expected_s=[300.0])

    assert gate.executor.submit_all([], deadline_s=time.monotonic() + 1.0) == []
