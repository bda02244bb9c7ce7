"""The two-lane executor: order, bounds, cancellation."""

import threading
from concurrent.futures import CancelledError, wait

import pytest

from gannet_inference.errors import QueueFull
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
