"""The embedder's work: what waits, in which order, and what becomes of it when a caller leaves or a text fails."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from fakes.gated_model import WAIT_S, GatedSession, bi_encoder

from gannet_embedder.embedding import TextBatch, TextEmbedder
from gannet_inference.lanes import Lane
from gannet_service.errors import DeadlineTooShort, InternalError, InvalidInput, Overloaded


@pytest.fixture
def session() -> Iterator[GatedSession]:
    """A session whose gate is opened at the end, so that no thread is left waiting."""
    session = GatedSession(pairs=False)
    yield session
    session.gate.set()


def batch(*texts: str, lane: Lane = Lane.INTERACTIVE, **options: object) -> TextBatch:
    """A batch of passages."""
    return TextBatch(texts=texts, purpose="passage", lane=lane, want_dense=True, average_length=10.0, **options)


async def until(condition: Callable[[], bool]) -> None:
    """Lets the other tasks and threads go on until the condition holds."""
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - what is waited for happens on threads that know no asyncio event
            await asyncio.sleep(0)


async def test_embed_when_cancelled_takes_waiting_texts_out_of_the_queue(session):
    """The text that runs is finished, those that wait never start, and their places are free."""
    encoder = bi_encoder(session, queue_max=3)
    embedder = TextEmbedder(encoder, queue_texts_max=64)
    call = asyncio.create_task(embedder.embed(batch("a", "b", "c")))
    await until(lambda: session.started.qsize() == 1)
    assert encoder.waiting == 2
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert encoder.waiting == 0
    session.gate.set()
    await embedder.embed(batch("d", "e"))
    assert session.started_so_far() == ["a", "d", "e"]
    embedder.close()


async def test_embed_with_a_full_queue_is_refused_with_a_hint_and_queues_nothing(session):
    """All texts of a batch are taken or none, and the refusal says when to come back."""
    encoder = bi_encoder(session, queue_max=2)
    embedder = TextEmbedder(encoder, queue_texts_max=64)
    first = asyncio.create_task(embedder.embed(batch("a")))
    await until(lambda: session.started.qsize() == 1)
    with pytest.raises(Overloaded) as refused:
        await embedder.embed(batch("b", "c", "d"))
    assert refused.value.retry_after_s > 0
    assert encoder.waiting == 0
    session.gate.set()
    await first
    embedder.close()


async def test_embed_in_the_interactive_lane_passes_bulk_work(session):
    """A query that comes last runs before the bulk texts that wait."""
    encoder = bi_encoder(session, queue_max=8)
    embedder = TextEmbedder(encoder, queue_texts_max=64)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(embedder.embed(batch("a", "b", "c", lane=Lane.BULK)))
        await until(lambda: session.started.qsize() == 1)
        tasks.create_task(embedder.embed(batch("q")))
        await until(lambda: encoder.waiting == 3)
        session.gate.set()
    assert session.started_so_far() == ["a", "q", "b", "c"]
    embedder.close()


async def test_embed_of_a_text_that_the_model_fails_on_fails_that_text_alone(session):
    """The other vectors come back; the failed text has neither vector and an error that hides the model's words."""
    session.gate.set()
    embedder = TextEmbedder(bi_encoder(session, queue_max=8), queue_texts_max=64)
    embedded = await embedder.embed(batch("gannet", "fail!", "puffin", want_sparse=True))
    first, failed, last = embedded.results
    assert isinstance(failed.error, InternalError)
    assert (failed.error.reason, failed.dense, failed.sparse) == ("MODEL_FAILURE", None, None)
    assert "told" not in failed.error.message
    for result in (first, last):
        assert result.error is None
        assert result.sparse.indices.size == 1
        np.testing.assert_allclose(np.frombuffer(result.dense.data, "<f4"), 0.5)
    embedder.close()


async def test_embed_of_a_text_that_shows_a_bug_fails_the_call(session):
    """Only a model's failure is a text's own; anything else is a bug and is not hidden in a reply."""
    session.gate.set()
    embedder = TextEmbedder(bi_encoder(session, queue_max=8), queue_texts_max=64)
    with pytest.raises(ZeroDivisionError):
        await embedder.embed(batch("gannet", "bug?"))
    embedder.close()


async def test_embed_of_nothing_left_returns_nothing(session):
    """A batch whose every text was refused before is no work."""
    embedder = TextEmbedder(bi_encoder(session, queue_max=8), queue_texts_max=64)
    embedded = await embedder.embed(batch())
    assert list(embedded.results) == []
    embedder.close()


async def test_embed_that_cannot_meet_its_deadline_is_refused_before_the_model_reads_it(session):
    """By the pace measured so far it would come too late: its own reason, and no run; a caller with more time is served."""
    session.gate.set()
    encoder = bi_encoder(session, queue_max=8)
    embedder = TextEmbedder(encoder, queue_texts_max=64)
    encoder._pace.measured(1, 100.0)
    with pytest.raises(DeadlineTooShort) as refused:
        await embedder.embed(batch("gannet", deadline_s=time.monotonic() + 60.0))
    assert refused.value.reason == "DEADLINE_HOPELESS"
    assert session.started_so_far() == []
    await embedder.embed(batch("gannet", deadline_s=time.monotonic() + 6000.0))
    assert session.started_so_far() == ["gannet"]
    embedder.close()


async def test_embed_that_becomes_hopeless_in_the_queue_drops_all_of_its_texts(session):
    """When the first text can no longer come in time, none of the others is begun for nobody."""
    encoder = bi_encoder(session, queue_max=8)
    embedder = TextEmbedder(encoder, queue_texts_max=64)
    first = asyncio.create_task(embedder.embed(batch("a")))
    await until(lambda: session.started.qsize() == 1)
    late = asyncio.create_task(embedder.embed(batch("b", "c", deadline_s=time.monotonic() + 3600.0)))
    await until(lambda: encoder.waiting == 2)
    for work in encoder._executor._lanes[Lane.INTERACTIVE]:
        work.expected_s = 7200.0
    session.gate.set()
    with pytest.raises(DeadlineTooShort):
        await late
    await first
    assert session.started_so_far() == ["a"]
    embedder.close()


async def test_embed_that_refuses_long_texts_does_so_before_the_model_reads_any(session):
    """One text beyond the model's tokens refuses the batch; cut is what it is otherwise."""
    session.gate.set()
    embedder = TextEmbedder(bi_encoder(session, queue_max=8), queue_texts_max=64)
    with pytest.raises(InvalidInput) as refused:
        await embedder.embed(batch("gannet", "x" * 513, refuse_long=True))
    assert refused.value.reason == "TEXT_TOO_LONG"
    assert session.started_so_far() == []
    embedded = await embedder.embed(batch("gannet", "x" * 513))
    assert [result.truncated for result in embedded.results] == [False, True]
    embedder.close()


async def test_embed_in_two_models_side_by_side_shares_one_queue(session):
    """A second model has no threads of its own: its texts wait behind the first one's, and its failures are its own."""
    encoder = bi_encoder(session, queue_max=2)
    other = bi_encoder(session, queue_max=2, beside=encoder)
    embedder, beside = (TextEmbedder(one, queue_texts_max=64) for one in (encoder, other))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(embedder.embed(batch("a", "b")))
        await until(lambda: session.started.qsize() == 1)
        tasks.create_task(beside.embed(batch("c")))
        await until(lambda: encoder.waiting == 2)
        with pytest.raises(Overloaded):
            await beside.embed(batch("d"))
        session.gate.set()
    assert session.started_so_far() == ["a", "b", "c"]
    for one in (embedder, beside):
        one.close()


async def test_embed_of_single_texts_fills_the_queue_to_its_last_place(session):
    """As many callers with one text each may wait as there are places, and not one for every slice of eight."""
    encoder = bi_encoder(session, queue_max=64)
    embedder = TextEmbedder(encoder, queue_texts_max=64)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(64):
            tasks.create_task(embedder.embed(batch("a")))
        session.gate.set()
    assert len(session.started_so_far()) == 64
    embedder.close()


async def test_embed_of_a_short_text_does_not_wait_for_the_thread_that_prepares_long_ones(session):
    """A query is tokenised where it arrives; a text that is longer than the bound waits its turn."""
    session.gate.set()
    embedder = TextEmbedder(bi_encoder(session, queue_max=8), queue_texts_max=64)
    held = threading.Event()
    embedder._preparing.submit(lambda: held.wait(WAIT_S))
    long = asyncio.create_task(embedder.embed(batch("x" * 1025)))
    embedded = await embedder.embed(batch("x" * 512, "y" * 512))
    assert [result.token_count for result in embedded.results] == [512, 512]
    assert not long.done()
    held.set()
    await long
    embedder.close()


async def test_embed_with_a_queue_too_long_for_the_deadline_is_refused_before_it_is_tokenised(session):
    """The refusal says when to come back, and does not need the thread that would have tokenised the text."""
    encoder = bi_encoder(session, queue_max=8)
    embedder = TextEmbedder(encoder, queue_texts_max=64)
    encoder._pace.measured(1, 20.0)
    first = asyncio.create_task(embedder.embed(batch("a")))
    await until(lambda: session.started.qsize() == 1)
    second = asyncio.create_task(embedder.embed(batch("a")))
    await until(lambda: encoder.waiting == 1)
    embedder._preparing.close()
    with pytest.raises(Overloaded) as refused:
        await embedder.embed(batch("x" * 2000, deadline_s=time.monotonic() + 25.0))
    assert refused.value.retry_after_s >= 2.5
    session.gate.set()
    await asyncio.gather(first, second)
    assert session.started_so_far() == ["a", "a"]
    embedder.close()


async def test_embed_of_sparse_vectors_alone_is_not_refused_for_the_model_s_queue(session):
    """What the model does not read does not wait for it."""
    encoder = bi_encoder(session, queue_max=1)
    embedder = TextEmbedder(encoder, queue_texts_max=64)
    first = asyncio.create_task(embedder.embed(batch("a")))
    await until(lambda: session.started.qsize() == 1)
    second = asyncio.create_task(embedder.embed(batch("b")))
    await until(lambda: encoder.waiting == 1)
    sparse = TextBatch(
        texts=["gannet"], purpose="query", lane=Lane.INTERACTIVE, want_sparse=True, average_length=10.0, deadline_s=0.0
    )
    embedded = await embedder.embed(sparse)
    assert embedded.results[0].sparse.indices.size == 1
    session.gate.set()
    await asyncio.gather(first, second)
    embedder.close()
