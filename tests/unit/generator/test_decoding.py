"""The generator that writes, over a tiny random decoder."""

import asyncio
import contextlib
import random
import time

import pytest
from fakes.decoder import END, manifest_of, write_folder

from gannet_generator.decoding import DecoderGenerator
from gannet_generator.generation import Delta, Finished, Message, Request, Sampling
from gannet_inference.decoder import request
from gannet_inference.decoder.model import Decoder, DecoderSettings
from gannet_inference.decoder.request import Token
from gannet_inference.errors import ModelFailure, UnsupportedModel
from gannet_inference.manifest import load_manifest
from gannet_service import call
from gannet_service.errors import DeadlineTooShort, InvalidInput, Overloaded

HELLO = [Message(role="user", content="hello")]
# A token a byte, and three special ones around the turns.
HELLO_TOKENS = len("user: hello") + len("assistant:") + 3


@pytest.fixture(scope="module")
def entry(tmp_path_factory):
    """A folder with a decoder, and its manifest entry."""
    folder = tmp_path_factory.mktemp("models")
    write_folder(folder / "tiny")
    (folder / "models.toml").write_text(manifest_of(folder / "tiny"))
    return load_manifest(folder / "models.toml").entry("tiny-writer")


@pytest.fixture
async def open_generator(entry, tmp_path):
    """Opens generators that are closed with the test."""
    opened = []

    def open_one(*, tokens_max=20, **changes) -> DecoderGenerator:
        settings = {
            "slots_max": 2,
            "context_tokens": 0,
            "cache_bytes_max": 1 << 24,
            "prefix_bytes_max": 0,
            "prefill_tokens": 16,
            "queue_max": 8,
            "threads": 1,
            "spin": False,
            "gpu_index": None,
        }
        decoder = Decoder.open(entry, tmp_path, DecoderSettings(**settings | changes))
        opened.append(DecoderGenerator(decoder, tokens_max=tokens_max, temperature=0.0))
        return opened[-1]

    yield open_one
    for generator in opened:
        await generator.close()


async def events_of(generator, **options):
    """All events of one answer."""
    return [event async for event in generator.generate(Request(messages=HELLO, **options))]


async def until(condition) -> None:
    """Waits for what another thread is about to do."""
    while not condition():  # noqa: ASYNC110 - a thread has no asyncio.Event to set
        await asyncio.sleep(0)


async def test_generate_ends_with_what_it_used(open_generator):
    """Deltas are never empty and carry their tokens' ids, the last word those without text; prompt and answer are counted."""
    *deltas, finished = await events_of(open_generator(), tokens_min=20)

    assert all(isinstance(delta, Delta) and delta.text for delta in deltas)
    assert isinstance(finished, Finished)
    assert (finished.reason, finished.model) == ("length", "tiny-writer")
    assert finished.usage.completion_tokens == 20
    assert finished.usage.prompt_tokens == HELLO_TOKENS
    assert sum(len(event.token_ids) for event in [*deltas, finished]) == 20


async def test_generate_same_seed_says_the_same_and_tells_the_seed(open_generator):
    """A seed that nobody named is told, and repeats the answer."""
    generator = open_generator()
    warm = Sampling(temperature=1.5)
    first = await events_of(generator, sampling=warm)

    again = await events_of(generator, sampling=Sampling(temperature=1.5, seed=first[-1].seed))

    assert [event.text for event in again[:-1]] != []
    assert "".join(event.text for event in again[:-1]) == "".join(event.text for event in first[:-1])


async def test_generate_logprobs_have_the_tokens_bytes(open_generator):
    """One for each token, with as many beside it as were asked for."""
    events = await events_of(open_generator(), logprobs=3)

    told = [logprob for event in events for logprob in event.logprobs]
    assert len(told) == events[-1].usage.completion_tokens
    assert [logprob.token_id for logprob in told] == [one for event in events for one in event.token_ids]
    assert all(len(logprob.top) == 3 and logprob.logprob < 0 for logprob in told)
    assert all(len(logprob.token) == 1 for logprob in told if logprob.token_id < 256)


@pytest.mark.parametrize("text", ["", "so"])
async def test_generate_tokens_without_text_come_with_the_last_word(open_generator, monkeypatch, text):
    """The end of an answer is a token, too: its id and log probability are told, after the delta or with it, and once."""
    tokens = (Token(id=65, logprob=-0.5), Token(id=END, logprob=-0.25))
    finished = request.Finished(
        reason="stop", prompt_tokens=1, reused_tokens=0, tokens=2, queue_s=0, prefill_s=0, decode_s=0
    )

    async def chunks(_asked):
        yield request.Chunk(text=text, tokens=tokens, finished=finished)

    generator = open_generator()
    monkeypatch.setattr(generator._decoder, "generate", chunks)

    *deltas, last = await events_of(generator, logprobs=0)

    assert [delta.token_ids for delta in deltas] == [(65, END)] * len(deltas)
    assert last.token_ids == (() if text else (65, END))
    holder = deltas[0] if text else last
    assert [(one.token_id, one.logprob) for one in holder.logprobs] == [(65, -0.5), (END, -0.25)]


async def test_generate_closed_early_frees_its_slot(open_generator):
    """Whoever leaves takes the work along."""
    generator = open_generator(tokens_max=100)
    answer = generator.generate(Request(messages=HELLO, tokens_min=100))
    await anext(answer)
    (stream,) = generator._decoder._mailboxes

    await answer.aclose()

    assert stream.is_cancelled
    await until(lambda: generator._decoder.in_work == 0)
    assert generator._decoder._mailboxes == {}


async def test_generate_a_thousand_random_cancels_leave_nothing(open_generator):
    """Callers who leave before, while or after their prompt is read, by cancelling or by closing: no task, mailbox or slot is left."""
    chance = random.Random(0)  # noqa: S311 - a test's dice
    generator = open_generator(tokens_max=30, slots_max=3, queue_max=64, prefix_bytes_max=1 << 18)
    decoder = generator._decoder
    before = asyncio.all_tasks()
    told: list[object] = []
    cancelled = 0

    async def read(events: int) -> None:
        asked = Request(messages=[Message(role="user", content="x" * 70)], tokens_max=30, tokens_min=30)
        async with contextlib.aclosing(generator.generate(asked)) as answer:
            for _ in range(events):
                await anext(answer, None)
                told.append(answer)
            await asyncio.Event().wait()  # until it is cancelled

    while cancelled < 1000:
        known, wanted = len(told), [chance.choice((0, 1, 1, 2, 5)) for _ in range(chance.randint(1, 20))]
        tasks = [asyncio.create_task(read(events)) for events in wanted]
        if any(wanted) and chance.random() < 0.5:
            await until(lambda known=known: len(told) > known)
        for _ in range(chance.randrange(40)):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(end) for end in ends} == {asyncio.CancelledError}
        cancelled += len(ends)
    await until(lambda: decoder.in_work == decoder.waiting == 0)

    assert asyncio.all_tasks() == before
    assert decoder._mailboxes == {}
    assert decoder._engine.slots.free == decoder.slots == 3
    assert 0 < decoder._engine._prefixes.bytes_held <= 1 << 18
    assert (await events_of(generator, tokens_min=20, tokens_max=20))[-1].usage.completion_tokens == 20


async def test_generate_deadline_that_passes_is_told(open_generator):
    """The caller's own deadline, and the slot is free again."""
    generator = open_generator(tokens_max=100)
    call.set_current(call.Call(method="m", request_id="r", deadline=time.monotonic() - 1))
    try:
        with pytest.raises(DeadlineTooShort):
            await events_of(generator)
    finally:
        call.set_current(None)
    assert generator._decoder.in_work == 0


async def test_generate_without_room_in_the_queue_is_refused_with_a_hint(open_generator):
    """One slot, nobody may wait."""
    generator = open_generator(tokens_max=100, slots_max=1, queue_max=1)
    streams = [generator.generate(Request(messages=HELLO, tokens_min=100)) for _ in range(2)]
    first = asyncio.ensure_future(anext(streams[0]))
    await until(lambda: generator._decoder.in_work == 1)
    second = asyncio.ensure_future(anext(streams[1]))
    await until(lambda: generator._decoder.waiting == 1 or second.done())

    with pytest.raises(Overloaded) as refused:
        await events_of(generator)

    assert refused.value.retry_after_s > 0
    await asyncio.gather(first, second)
    for stream in streams:
        await stream.aclose()


@pytest.mark.parametrize(
    "content,options,field",
    [
        ("x" * 200, {}, "messages"),
        ("refuse me", {}, "messages"),
        ("x" * 60, {"tokens_max": 100}, "max_tokens"),
    ],
)
async def test_generate_what_does_not_fit_is_refused_by_the_contracts_name(open_generator, content, options, field):
    """Prompt and answer together are at most the context."""
    generator = open_generator(tokens_max=127)

    with pytest.raises(InvalidInput) as refused:
        async for _ in generator.generate(Request(messages=[Message(role="user", content=content)], **options)):
            pass

    assert refused.value.field == field


async def test_count_tokens_counts_the_prompt_that_is_read(open_generator):
    """The chat template's own tokens included; a text alone has none."""
    generator = open_generator()

    counts = await generator.count_tokens(HELLO, ["hello", ""])

    assert (counts.prompt, list(counts.texts), counts.exact) == (HELLO_TOKENS, [5, 0], True)


async def test_close_fails_what_is_left(open_generator):
    """Nobody waits for ever for an answer of a server that ends."""
    generator = open_generator(tokens_max=100)
    answer = generator.generate(Request(messages=HELLO, tokens_min=100))
    await anext(answer)

    await generator.close()

    with pytest.raises(ModelFailure, match="closed"):
        async for _ in answer:
            pass


async def test_description_says_what_it_is(open_generator):
    """The digest covers the files."""
    description = open_generator(tokens_max=1000).description

    assert (description.kind, description.precision, description.free_text) == ("decoder", "fp32", True)
    assert (description.context_tokens_max, description.tokens_max) == (128, 127)
    assert len(bytes.fromhex(description.model_digest)) == 32


def test_open_longer_context_than_the_model_was_made_for_is_refused(entry, tmp_path):
    """It would write nonsense beyond it."""
    longer = entry.model_copy(update={"tokens_max": 129})

    with pytest.raises(UnsupportedModel, match="made for 128"):
        Decoder.open(longer, tmp_path, settings=None)
