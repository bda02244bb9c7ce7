"""Batches for a device: which texts go together, what a caller gets, and who is hurt when one of them breaks the model."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import batching

from gannet_inference import batch
from gannet_inference.batch import BUCKET_TOKENS, Batcher, calibrated_budget, choose, pad
from gannet_inference.errors import ModelFailure
from gannet_inference.tokens import TokenIds

WAIT_S = 10.0
LENGTHS = st.lists(st.integers(1, 600), min_size=1, max_size=40)
BUDGETS = st.integers(BUCKET_TOKENS, 8192)


def _text(*ids):
    return TokenIds(ids=np.array(ids), type_ids=np.ones(len(ids), dtype=np.int64), truncated=False)


@given(lengths=LENGTHS, budget=BUDGETS)
def test_choose_equals_the_naive_reference(lengths, budget):
    """The rules written out give the same batch."""
    assert choose(lengths, budget) == batching.choose(lengths, budget)


@given(lengths=LENGTHS, budget=BUDGETS)
def test_choose_takes_the_oldest_and_stays_within_the_budget(lengths, budget):
    """Nobody starves, and padding counts; only a text that is too long by itself may exceed the budget, alone."""
    chosen = choose(lengths, budget)

    widths = [-(-lengths[index] // BUCKET_TOKENS) * BUCKET_TOKENS for index in chosen]
    assert chosen[0] == 0
    assert len(chosen) == 1 or max(widths) * len(widths) <= budget
    assert 2 * min(widths) >= max(widths)


@given(lengths=LENGTHS, budget=BUDGETS)
def test_choose_repeated_serves_everybody_once(lengths, budget):
    """Taking batches until nothing waits ends, and loses and repeats no text."""
    waiting, served = list(enumerate(lengths)), []
    while waiting:
        chosen = choose([length for _, length in waiting], budget)
        served += [waiting[index][0] for index in chosen]
        waiting = [one for index, one in enumerate(waiting) if index not in chosen]

    assert sorted(served) == list(range(len(lengths)))


def test_pad_fills_rows_to_a_bucket_and_masks_what_is_no_token():
    """Rows are a multiple of 64 wide; ids, types and mask are zero behind each text."""
    fed = pad([_text(5, 6, 7), _text(*range(1, 66))], tokens_max=512)

    assert {name: value.shape for name, value in fed.items()} == dict.fromkeys(fed, (2, 128))
    assert fed["attention_mask"].sum(axis=1).tolist() == [3, 65]
    assert fed["input_ids"][0, :4].tolist() == [5, 6, 7, 0]
    assert fed["token_type_ids"][0, :4].tolist() == [1, 1, 1, 0]


def test_pad_is_no_wider_than_the_model_reads():
    """A model of 100 positions has none for the 101st column."""
    assert pad([_text(*range(90))], tokens_max=100)["input_ids"].shape == (1, 100)


class _Device:
    """A fake device: notes its batches, fails where a text is in `broken`, and stands still while `open` is not set."""

    def __init__(self, monkeypatch, *, budget=1024, broken=()):
        self.batches = []
        self.open = threading.Event()
        self.open.set()
        self._broken = set(broken)
        arrived = self._arrived = threading.Semaphore(0)

        class Announced(threading.Event):
            def wait(self, timeout=None):
                arrived.release()
                return super().wait(timeout)

        monkeypatch.setattr(batch, "threading", SimpleNamespace(Lock=threading.Lock, Event=Announced))
        self.batcher = Batcher(self._run, model="fake", budget_tokens=budget)
        self._callers = []
        self.results = {}

    def _run(self, texts):
        ids = [int(text.ids[0]) for text in texts]
        self.batches.append(ids)
        self._arrived.release()
        assert self.open.wait(WAIT_S)
        if self._broken & set(ids):
            raise ModelFailure("fake", "run", "broken")
        return [text.ids.astype(np.float32) for text in texts]

    def call(self, number, length=1):
        """A caller in a thread of its own; returns once it waits, for the device or on it."""
        caller = threading.Thread(target=self._call, args=(_text(*[number] * length),))
        self._callers.append(caller)
        caller.start()
        assert self._arrived.acquire(timeout=WAIT_S)

    def _call(self, text):
        number = int(text.ids[0])
        try:
            self.results[number] = self.batcher.run(text).tolist()
        except (ModelFailure, KeyboardInterrupt) as error:
            self.results[number] = str(error)

    def finish(self):
        """Lets the device run until everybody is served."""
        self.open.set()
        for caller in self._callers:
            caller.join(WAIT_S)
            assert not caller.is_alive()


@pytest.fixture
def still_device(monkeypatch):
    """Makes a device that stands still, with caller 0 on it."""

    def make(**options):
        device = _Device(monkeypatch, **options)
        device.open.clear()
        device.call(0)
        return device

    return make


def test_batcher_runs_a_lone_text_at_once(still_device):
    """Nobody waits for company: the device has the first text before a second one comes."""
    device = still_device()

    assert device.batches == [[0]]
    device.finish()


def test_batcher_gathers_what_came_while_the_device_was_busy(still_device):
    """Those who wait go together, each gets its own output."""
    device = still_device()
    for number in (1, 2, 3):
        device.call(number, length=number)
    device.finish()

    assert device.batches == [[0], [1, 2, 3]]
    assert device.results == {0: [0.0], 1: [1.0], 2: [2.0] * 2, 3: [3.0] * 3}


def test_batcher_serves_the_oldest_first_whatever_its_length(still_device):
    """A long text is not passed over for many short ones, and they do not pay for its width."""
    device = still_device()
    device.call(1, length=500)
    for number in (2, 3, 4):
        device.call(number)
    device.finish()

    assert device.batches == [[0], [1], [2, 3, 4]]


@pytest.mark.parametrize("broken", [{2}, {1, 4}, {1, 2, 3, 4, 5}])
def test_batcher_text_that_breaks_the_model_fails_alone(still_device, broken):
    """The batch is halved until the text is alone; its neighbours get their outputs."""
    device = still_device(broken=broken)
    for number in range(1, 6):
        device.call(number)
    device.finish()

    expected = {number: [float(number)] for number in range(6)} | dict.fromkeys(broken, "model 'fake': run: broken")
    assert device.results == expected
    assert len(device.batches) <= 1 + 2 * 5


def test_batcher_goes_on_after_an_interrupt(still_device):
    """Whoever was in the batch gets an error, whoever waits gets the device."""
    device = still_device(budget=2 * BUCKET_TOKENS)
    for number in (1, 2, 3):
        device.call(number)
    device.batcher._run_batch = _interrupted_once(device.batcher._run_batch)
    device.finish()

    assert device.results[0] == [0.0]
    assert device.results[2] == "model 'fake': run: was interrupted"
    assert device.results[3] == [3.0]


def _interrupted_once(run):
    interrupts = [KeyboardInterrupt("stop")]

    def run_batch(texts):
        if interrupts:
            raise interrupts.pop()
        return run(texts)

    return run_batch


@pytest.mark.parametrize(
    "rate_of,budget",
    [
        (lambda tokens: min(tokens, 512), 512),
        (lambda tokens: 100 / (tokens + 1), 64),
        (lambda tokens: tokens, 4096),
        (lambda tokens: 100 if tokens >= 256 else 94, 256),
    ],
)
def test_calibrated_budget_is_the_smallest_that_is_about_as_fast(rate_of, budget):
    """A device that is full at 512 tokens gets batches of 512; 5 % more speed is worth no wait."""
    assert calibrated_budget(lambda tokens: tokens / rate_of(tokens), budget_max=4096) == budget


def test_calibrated_budget_stops_where_the_device_does():
    """A batch that does not fit into the device's memory is no candidate, and no larger one is tried."""
    tried = []

    def seconds(tokens):
        tried.append(tokens)
        if tokens > 256:
            raise ModelFailure("fake", "run", "out of memory")
        return 1.0

    assert calibrated_budget(seconds, budget_max=4096) == 256
    assert tried == [64, 128, 256, 512]


def test_calibrated_budget_of_a_model_that_never_runs_is_its_error():
    """A model that fails on the smallest batch is not served."""

    def seconds(tokens):
        raise ModelFailure("fake", "run", "broken")

    with pytest.raises(ModelFailure, match="broken"):
        calibrated_budget(seconds, budget_max=4096)
