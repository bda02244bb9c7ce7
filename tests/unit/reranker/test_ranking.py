"""The reranker's work: what becomes of it when a caller leaves, the queue is full or a pair fails."""

import asyncio
from collections.abc import Callable, Iterator

import pytest
from fakes.gated_model import WAIT_S, GatedSession, cross_encoder
from hypothesis import given
from hypothesis import strategies as st

from gannet.reranker.v1 import reranker_pb2 as pb
from gannet_inference.errors import ModelFailure
from gannet_reranker.ranking import PassageRanker, Ranked, Ranking
from gannet_reranker.wire import to_response
from gannet_service.errors import Overloaded


@pytest.fixture
def session() -> Iterator[GatedSession]:
    """A session whose gate is opened at the end, so that no thread is left waiting."""
    session = GatedSession(pairs=True)
    yield session
    session.gate.set()


async def until(condition: Callable[[], bool]) -> None:
    """Lets the other tasks and threads go on until the condition holds."""
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - what is waited for happens on threads that know no asyncio event
            await asyncio.sleep(0)


async def test_rank_sorts_by_falling_logit_and_keeps_ties_in_order(session):
    """The fake's logit is the passage's length: longest first, equals as they came."""
    session.gate.set()
    ranker = PassageRanker(cross_encoder(session, queue_max=8), queue_requests_max=8)
    ranking = await ranker.rank("q", ["bb", "a", "cc", "ddd"])
    assert [ranked.index for ranked in ranking.results] == [3, 0, 2, 1]
    assert [ranked.logit for ranked in ranking.results] == [3.0, 2.0, 2.0, 1.0]
    ranker.close()


async def test_rank_when_cancelled_takes_waiting_pairs_out_of_the_queue(session):
    """The pair that runs is finished, those that wait never start, and their places are free."""
    encoder = cross_encoder(session, queue_max=3)
    ranker = PassageRanker(encoder, queue_requests_max=8)
    call = asyncio.create_task(ranker.rank("q", ["a", "b", "c"]))
    await until(lambda: session.started.qsize() == 1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert encoder.waiting == 0
    session.gate.set()
    await ranker.rank("q", ["d"])
    assert session.started_so_far() == ["a", "d"]
    ranker.close()


async def test_rank_with_a_full_queue_is_refused_with_a_hint(session):
    """All pairs of a request are taken or none, and the refusal says when to come back."""
    session.gate.set()
    ranker = PassageRanker(cross_encoder(session, queue_max=2), queue_requests_max=8)
    with pytest.raises(Overloaded) as refused:
        await ranker.rank("q", ["a", "b", "c"])
    assert refused.value.retry_after_s > 0
    assert session.started_so_far() == []
    ranker.close()


async def test_rank_of_a_pair_that_the_model_fails_on_fails_and_stops_the_rest(session):
    """A ranking without one passage would be wrong, so there is none, and nobody scores for it."""
    encoder = cross_encoder(session, queue_max=8)
    ranker = PassageRanker(encoder, queue_requests_max=8)
    with pytest.raises(ModelFailure):
        await ranker.rank("q", ["fail!", "a", "b"])
    assert encoder.waiting == 0
    session.gate.set()
    ranker.close()


@given(logits=st.lists(st.floats(-1000, 1000), min_size=1, max_size=9))
def test_to_response_with_sigmoid_of_any_logits_stays_in_order_between_zero_and_one(logits):
    """No logit overflows, and a sigmoid that saturates changes no place."""
    ranked = sorted(
        (Ranked(index=i, logit=x, truncated=False) for i, x in enumerate(logits)), key=lambda one: -one.logit
    )
    ranking = Ranking(results=ranked, queue_s=0.0, tokenize_s=0.0, inference_s=0.0)
    reply = to_response(ranking, pb.RerankRequest(sigmoid=True), 0.0)
    scores = [result.score for result in reply.results]
    assert [result.index for result in reply.results] == [one.index for one in ranked]
    assert scores == sorted(scores, reverse=True)
    assert all(0.0 <= score <= 1.0 for score in scores)
