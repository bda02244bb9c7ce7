"""The decode loop over a model whose cache holds the tokens themselves: who is where, who says what, who leaves."""

import random
import time

import pytest
from fakes.decoder import BYTES, END, VOCABULARY, Reader, TokenCache, TokenRunner, ask, byte_tokenizer, reciting

from gannet_inference.decoder.engine import Engine, EngineLimits
from gannet_inference.decoder.request import DecodeRequest, InvalidRequest
from gannet_inference.errors import DeadlinePassed, ModelFailure, QueueFull

TOKENIZER = byte_tokenizer()
TEXTS = ["one two three", "ein Maß für €uro", "短い文", "🐦🌊", "", "stop here and go on", "aaaa"]


class Bench:
    """An engine that is stepped by hand."""

    def __init__(self, *, slots: int = 4, positions: int = 256, queue_max: int = 100, prefill_tokens: int = 8) -> None:
        self.cache = TokenCache(slots, positions)
        self.runner = TokenRunner(self.cache, reciting(TOKENIZER, TEXTS))
        self.reader = Reader()
        self.engine = Engine(
            self.runner,
            self.cache,
            tokenizer=TOKENIZER,
            vocabulary=VOCABULARY,
            ends=[END],
            limits=EngineLimits(queue_max=queue_max, prefill_tokens=prefill_tokens),
            deliver=self.reader.take,
            prefixes=None,
            model="fake",
        )

    def ask(self, number: int, length: int = 2, **options):
        """Submits a prompt for text `number`."""
        return self.engine.submit(
            DecodeRequest(prompt=ask(number, length), **{"tokens_max": self.cache.positions - length, **options})
        )

    def run(self) -> None:
        """Rounds until nothing is left."""
        for _ in range(5000):
            if not self.engine.step():
                return
        raise AssertionError("the engine does not come to an end")

    def holds(self) -> tuple[int, int, int]:
        """Waiting, in slots, free."""
        return self.engine.waiting, len(self.engine.slots.streams), self.engine.slots.free


@pytest.mark.parametrize("number", range(len(TEXTS)))
def test_engine_one_request_says_its_text(number):
    """Characters of several tokens come whole, in however many chunks."""
    bench = Bench()

    stream = bench.ask(number)
    bench.run()

    assert bench.reader.text(stream) == TEXTS[number]
    assert all("�" not in chunk.text for chunk in bench.reader.chunks[stream])
    assert bench.reader.last(stream).finished.reason == "stop"


def test_engine_staggered_requests_join_and_leave_between_tokens():
    """Each says its own text, however many others come and go, and more than slots wait their turn."""
    bench = Bench(slots=3)
    streams = []
    for number in range(40):
        streams.append((number % len(TEXTS), bench.ask(number % len(TEXTS), length=2 + number % 30)))
        bench.engine.step()
    bench.run()

    assert [bench.reader.text(stream) for _, stream in streams] == [TEXTS[number] for number, _ in streams]
    assert bench.holds() == (0, 0, 3)


def test_engine_live_streams_are_moved_on_by_one_run():
    """Three that decode take one run a round, and one delivery."""
    bench = Bench(slots=3)
    for _ in range(3):
        bench.ask(0)
    for _ in range(3):
        bench.engine.step()
    bench.runner.runs.clear()
    before = bench.reader.deliveries

    bench.engine.step()

    assert bench.runner.runs == [(0, (3, 1))]
    assert bench.reader.deliveries == before + 1


def test_engine_long_prompt_is_read_in_pieces_between_tokens_of_others():
    """A prompt of five pieces holds nobody up for more than one piece."""
    bench = Bench(prefill_tokens=8)
    first = bench.ask(0)
    bench.engine.step()

    bench.ask(1, length=40)
    said = []
    for _ in range(5):
        said.append(len(bench.reader.text(first)))
        bench.engine.step()

    assert [width for _, (rows, width) in bench.runner.runs if rows == 1 and width > 1] == [2, 8, 8, 8, 8, 8]
    assert said == sorted(set(said))


def test_engine_stop_string_split_across_tokens_is_never_told():
    """Its beginning is held back until it is decided."""
    bench = Bench()

    stream = bench.ask(5, stop=("here and", "zzz"))
    bench.run()

    assert bench.reader.text(stream) == "stop "
    assert bench.reader.last(stream).finished.reason == "stop_string"


def test_engine_beginning_of_a_stop_string_that_is_none_is_told():
    """What was held back comes when the text goes on otherwise, or ends."""
    bench = Bench()

    stream = bench.ask(5, stop=("here but", "on and on"))
    bench.run()

    assert bench.reader.text(stream) == TEXTS[5]


def test_engine_first_of_several_stop_strings_ends_the_text():
    """The one that begins first, not the one that is named first."""
    bench = Bench()

    stream = bench.ask(0, stop=("three", "two"))
    bench.run()

    assert bench.reader.text(stream) == "one "


def test_engine_tokens_max_ends_between_characters():
    """Half a character is not told."""
    bench = Bench()

    stream = bench.ask(2, tokens_max=7)
    bench.run()

    assert bench.reader.text(stream) == TEXTS[2].encode()[:6].decode()
    assert bench.reader.last(stream).finished.reason == "length"
    assert bench.reader.last(stream).finished.tokens == 7


def test_engine_tokens_min_puts_the_end_off():
    """The end is no choice, and stop strings are text, before so many tokens."""
    bench = Bench()
    cross = TOKENIZER.encode("x").ids[0]
    bench.runner.next_token = lambda held: END if len(held) % 2 else cross

    # Where the model wants to end, all other tokens are equal, and the first of them is byte 0's.
    stream = bench.ask(4, tokens_min=4, stop=("x",))
    bench.run()

    finished = bench.reader.last(stream).finished
    assert finished.tokens >= 4
    assert finished.reason == "stop_string"


def test_engine_tokens_are_told_with_ids():
    """Every token that was chosen is in a chunk, the end of the text included."""
    bench = Bench()

    stream = bench.ask(1)
    bench.run()

    assert bench.reader.tokens(stream) == [*TOKENIZER.encode(TEXTS[1]).ids, END]


def test_engine_cancelled_stream_frees_its_slot_within_one_round():
    """The slot table says so; nothing more is told of it, and the others go on."""
    bench = Bench(slots=2)
    gone, stays = bench.ask(0), bench.ask(1)
    for _ in range(3):
        bench.engine.step()
    told = len(bench.reader.chunks[gone])

    bench.engine.cancel(gone)
    bench.engine.step()

    assert bench.engine.slots.decoding == [stays]
    assert bench.engine.slots.free == 1
    bench.run()
    assert len(bench.reader.chunks[gone]) == told
    assert bench.reader.text(stays) == TEXTS[1]


def test_engine_stream_cancelled_while_its_prompt_is_read_frees_its_slot():
    """No more of the prompt is read."""
    bench = Bench(slots=1, prefill_tokens=4)
    stream = bench.ask(0, length=40)
    bench.engine.step()
    assert bench.engine.slots.reading is stream

    bench.engine.cancel(stream)
    bench.engine.step()

    assert bench.holds() == (0, 0, 1)
    assert len(bench.runner.runs) == 1


def test_engine_expired_stream_frees_its_slot_within_one_round():
    """In a slot or in the queue, it is told that its time is over."""
    bench = Bench(slots=1)
    ends_at_s = time.monotonic() + 3600
    streams = [bench.ask(0, ends_at_s=ends_at_s), bench.ask(0, ends_at_s=ends_at_s)]
    bench.engine.step()
    for stream in streams:
        object.__setattr__(stream.request, "ends_at_s", 0.0)

    bench.engine.step()

    assert bench.holds() == (0, 0, 1)
    assert [type(bench.reader.chunks[stream][-1].error) for stream in streams] == [DeadlinePassed] * 2


def test_engine_stream_that_expires_while_its_prompt_is_read_frees_its_slot():
    """No more of the prompt is read, and the next one gets the slot in the same round."""
    bench = Bench(slots=1, prefill_tokens=4)
    stream, following = bench.ask(0, length=40, ends_at_s=time.monotonic() + 3600), bench.ask(1, length=40)
    bench.engine.step()
    assert bench.engine.slots.reading is stream
    object.__setattr__(stream.request, "ends_at_s", 0.0)

    bench.engine.step()

    assert bench.engine.slots.reading is following
    assert type(bench.reader.last(stream).error) is DeadlinePassed


def test_engine_full_queue_refuses_with_a_hint():
    """One waits, the next is refused; the hint is what a slot took so far."""
    bench = Bench(slots=1, queue_max=1)
    bench.ask(0)
    bench.run()
    bench.ask(0)
    bench.engine.step()
    bench.ask(0)

    with pytest.raises(QueueFull) as refused:
        bench.ask(0)

    assert refused.value.retry_after_s > 0
    bench.run()


def test_engine_request_whose_turn_comes_after_its_deadline_is_refused():
    """By the time that streams took before; each refusal lowers the estimate until one is let in."""
    bench = Bench(slots=1)
    bench.ask(0)
    bench.run()
    bench.engine._stream_s = 1000.0
    bench.ask(0)
    bench.engine.step()

    with pytest.raises(QueueFull):
        bench.ask(0, ends_at_s=time.monotonic() + 10)

    assert bench.engine._stream_s == pytest.approx(900.0)
    bench.ask(0, ends_at_s=time.monotonic() + 10_000)


@pytest.mark.parametrize(
    "length,options,field",
    [(10, {"tokens_max": 247}, "tokens_max"), (10, {"tokens_max": 0}, "tokens_max"), (2, {"stop": ("",)}, "stop")],
)
def test_engine_request_outside_of_its_limits_is_refused_by_name(length, options, field):
    """The field at fault is named."""
    with pytest.raises(InvalidRequest) as refused:
        Bench().ask(0, length, **options)

    assert refused.value.field == field


def test_engine_token_outside_of_the_vocabulary_is_refused():
    """It would read beyond the embedding."""
    prompt = ask(0)
    prompt[1] = VOCABULARY
    with pytest.raises(InvalidRequest, match=r"0\.\.299"):
        Bench().engine.submit(DecodeRequest(prompt=prompt, tokens_max=1))


def test_engine_failing_model_fails_those_in_the_run_and_goes_on():
    """Their slots are free, and the next request is served."""
    bench = Bench()
    streams = [bench.ask(0), bench.ask(1)]
    bench.engine.step()
    bench.engine.step()
    bench.runner.failure = ModelFailure("fake", "run", "broken")
    bench.engine.step()
    bench.runner.failure = None

    assert [type(bench.reader.last(stream).error) for stream in streams] == [ModelFailure] * 2
    assert bench.holds() == (0, 0, 4)
    again = bench.ask(0)
    bench.run()
    assert bench.reader.text(again) == TEXTS[0]


def test_engine_closed_fails_what_is_left_and_takes_no_more():
    """With its thread: nobody waits for an answer that never comes."""
    bench = Bench(slots=1)

    def next_token(_held):
        while not bench.engine._is_closed:  # or the first would reach its last token on a busy machine
            pass
        return BYTES - 1

    bench.runner.next_token = next_token
    streams = [bench.ask(0), bench.ask(0)]
    bench.engine.start()

    bench.engine.close()

    assert [type(bench.reader.chunks[stream][-1].error) for stream in streams] == [ModelFailure] * 2
    with pytest.raises(ModelFailure, match="closed"):
        bench.ask(0)


@pytest.mark.parametrize("slots", [1, 2, 5])
def test_engine_a_thousand_random_cancels_leak_nothing(slots):
    """Of waiting, read and decoded streams alike: every slot is free in the end, and who was not cancelled says its text."""
    chance = random.Random(slots)  # noqa: S311 - a test's dice
    bench = Bench(slots=slots, prefill_tokens=5)
    live, kept, cancelled = {}, {}, {"waiting": 0, "reading": 0, "decoding": 0}
    while sum(cancelled.values()) < 1000:
        number = chance.randrange(len(TEXTS))
        stream = bench.ask(number, length=chance.randrange(2, 20))
        live[stream] = kept[stream] = TEXTS[number]
        for _ in range(chance.randrange(3)):
            bench.engine.step()
        for ended in [one for one in live if one in bench.reader.chunks and bench.reader.chunks[one][-1].is_last]:
            del live[ended]
        while len(live) > 3 * slots or (live and chance.random() < 0.5):
            victim = chance.choice(list(live))
            table = bench.engine.slots
            where = "decoding" if victim in table.decoding else "reading" if victim is table.reading else "waiting"
            bench.engine.cancel(victim)
            del live[victim], kept[victim]
            cancelled[where] += 1
            bench.engine.step()
            assert victim not in table.streams
            assert len(table.streams) + table.free == slots
    bench.run()

    assert min(cancelled.values()) > 100
    assert {stream: bench.reader.text(stream) for stream in kept} == kept
    assert bench.holds() == (0, 0, slots)
    assert not bench.engine.step()
