"""What the servicer tells the interceptor about room, before a call is anything but a request."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from fakes.gated_model import WAIT_S, GatedSession, bi_encoder

from gannet.embedder.v1 import embedder_pb2 as pb
from gannet_embedder.embedding import TextBatch, TextEmbedder
from gannet_embedder.servicer import EmbedderServicer
from gannet_inference.lanes import Lane
from gannet_service.errors import DeadlineTooShort, Overloaded

DENSE = {"texts": ["gannet"], "purpose": pb.PURPOSE_PASSAGE, "want_dense": True}


def later() -> float:
    """A deadline that leaves time for anything."""
    return time.monotonic() + 1000.0


@pytest.fixture
async def servicer() -> AsyncIterator[EmbedderServicer]:
    """One whose only model reads a text, has a bulk text waiting that takes 100 s, and one place left."""
    session = GatedSession(pairs=False)
    encoder = bi_encoder(session, queue_max=2)
    embedder = TextEmbedder(encoder, queue_texts_max=64)

    def bulk() -> TextBatch:
        return TextBatch(texts=["a"], purpose="passage", lane=Lane.BULK, want_dense=True, average_length=10.0)

    encoder._pace.measured(1, 100.0)
    calls = [asyncio.create_task(embedder.embed(bulk())) for _ in range(2)]
    async with asyncio.timeout(WAIT_S):
        while session.started.qsize() < 1 or encoder.waiting < 1:  # noqa: ASYNC110 - what is waited for happens on a thread
            await asyncio.sleep(0)
    yield EmbedderServicer({"fake": embedder}, None, None)
    session.gate.set()
    await asyncio.gather(*calls)
    embedder.close()


async def test_check_room_of_a_lane_that_is_too_long_refuses(servicer):
    """Bulk work waits behind 100 s of bulk work, and is told when to come back; an interactive call passes it."""
    bulk = pb.EmbedRequest(**DENSE, priority=pb.PRIORITY_BULK)
    with pytest.raises(Overloaded) as refused:
        servicer.check_room(bulk, time.monotonic() + 10.0)
    assert refused.value.retry_after_s > 0
    servicer.check_room(bulk, later())
    servicer.check_room(pb.EmbedRequest(**DENSE), time.monotonic() + 10.0)


async def test_check_room_of_a_passed_deadline_refuses(servicer):
    """Nobody waits for the answer any more."""
    with pytest.raises(DeadlineTooShort):
        servicer.check_room(pb.EmbedRequest(**DENSE), time.monotonic() - 1.0)


@pytest.mark.parametrize(
    "change",
    [
        {"want_dense": False, "want_sparse": True},
        {"texts": []},
        {"model": "unknown"},
        {"want_dense": False},
    ],
)
async def test_check_room_leaves_what_the_model_does_not_read_to_embed(servicer, change):
    """It is answered, or refused for what is wrong with it, however full the model is."""
    servicer.check_room(pb.EmbedRequest(**{**DENSE, **change}, priority=pb.PRIORITY_BULK), time.monotonic() + 10.0)
