"""The reranker's work: what becomes of it when a caller leaves, the queue is full or a pair fails."""

import asyncio
import time
from collections.abc import Callable, Iterator

import pytest
from fakes.gated_model import WAIT_S, GatedSession, cross_encoder
from hypothesis import given
from hypothesis import strategies as st

from gannet.reranker.v1 import reranker_pb2 as pb
from gannet_inference.errors import ModelFailure
from gannet_reranker.ranking import Candidates, PassageRanker, Ranked, Ranking
from gannet_reranker.servicer import RerankerServicer
from gannet_reranker.wire import to_response
from gannet_service.errors import DeadlineTooShort, InvalidInput, Overloaded


@pytest.fixture
def session() -> Iterator[GatedSession]:
    """A session whose gate is opened at the end, so that no thread is left waiting."""
    session = GatedSession(pairs=True)
    yield session
    session.gate.set()


def candidates(*passages: str, windows_max: int = 1, **options: object) -> Candidates:
    """Passages to rank against a query that the fakes do not read."""
    return Candidates(query="q", passages=passages, windows_max=windows_max, **options)


async def until(condition: Callable[[], bool]) -> None:
    """Lets the other tasks and threads go on until the condition holds."""
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - what is waited for happens on threads that know no asyncio event
            await asyncio.sleep(0)


async def test_rank_sorts_by_falling_logit_and_keeps_ties_in_order(session):
    """The fake's logit is the passage's length: longest first, equals as they came."""
    session.gate.set()
    ranker = PassageRanker(cross_encoder(session, queue_max=8), queue_requests_max=8)
    ranking = await ranker.rank(candidates("bb", "a", "cc", "ddd"))
    assert [ranked.index for ranked in ranking.results] == [3, 0, 2, 1]
    assert [ranked.logit for ranked in ranking.results] == [3.0, 2.0, 2.0, 1.0]
    ranker.close()


async def test_rank_when_cancelled_takes_waiting_pairs_out_of_the_queue(session):
    """The pair that runs is finished, those that wait never start, and their places are free."""
    encoder = cross_encoder(session, queue_max=3)
    ranker = PassageRanker(encoder, queue_requests_max=8)
    call = asyncio.create_task(ranker.rank(candidates("a", "b", "c")))
    await until(lambda: session.started.qsize() == 1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert encoder.waiting == 0
    session.gate.set()
    await ranker.rank(candidates("d"))
    assert session.started_so_far() == ["a", "d"]
    ranker.close()


async def test_rank_with_a_full_queue_is_refused_with_a_hint(session):
    """All pairs of a request are taken or none, and the refusal says when to come back."""
    session.gate.set()
    ranker = PassageRanker(cross_encoder(session, queue_max=2), queue_requests_max=8)
    with pytest.raises(Overloaded) as refused:
        await ranker.rank(candidates("a", "b", "c"))
    assert refused.value.retry_after_s > 0
    assert session.started_so_far() == []
    ranker.close()


async def test_rank_of_a_pair_that_the_model_fails_on_fails_and_stops_the_rest(session):
    """A ranking without one passage would be wrong, so there is none, and nobody scores for it."""
    encoder = cross_encoder(session, queue_max=8)
    ranker = PassageRanker(encoder, queue_requests_max=8)
    with pytest.raises(ModelFailure):
        await ranker.rank(candidates("fail!", "a", "b"))
    assert encoder.waiting == 0
    session.gate.set()
    ranker.close()


@pytest.mark.parametrize("windows_max,read,truncated", [(1, 1, True), (2, 2, True), (3, 3, False), (9, 3, False)])
async def test_rank_of_a_long_passage_is_its_best_windows_score(session, windows_max, read, truncated):
    """The fake's logit is a window's length: a full window is the best, whichever it is, and the rest is flagged."""
    session.gate.set()
    ranker = PassageRanker(cross_encoder(session, queue_max=8, tokens_max=4), queue_requests_max=8)
    ranking = await ranker.rank(candidates("abc", "defghijkl", windows_max=windows_max))
    long, short = ranking.results
    assert (long.index, long.logit, long.windows, long.truncated) == (1, 4.0, read, truncated)
    assert (short.index, short.logit, short.windows, short.truncated) == (0, 3.0, 1, False)
    assert len(session.started_so_far()) == read + 1
    ranker.close()


async def test_rank_whose_windows_do_not_fit_into_the_queue_is_refused_whole(session):
    """A passage counts as many places as it has windows."""
    session.gate.set()
    ranker = PassageRanker(cross_encoder(session, queue_max=2, tokens_max=4), queue_requests_max=8)
    with pytest.raises(Overloaded):
        await ranker.rank(candidates("defghijkl", windows_max=3))
    assert session.started_so_far() == []
    ranker.close()


async def test_rank_that_cannot_meet_its_deadline_is_refused_before_the_model_reads_it(session):
    """By the pace measured so far the last pair would come too late: its own reason, and no run."""
    session.gate.set()
    encoder = cross_encoder(session, queue_max=8)
    ranker = PassageRanker(encoder, queue_requests_max=8)
    encoder._pace.measured(1, 100.0)
    with pytest.raises(DeadlineTooShort) as refused:
        await ranker.rank(candidates("a", "b", deadline_s=time.monotonic() + 150.0))
    assert refused.value.reason == "DEADLINE_HOPELESS"
    assert session.started_so_far() == []
    await ranker.rank(candidates("a", "b", deadline_s=time.monotonic() + 600.0))
    assert session.started_so_far() == ["a", "b"]
    ranker.close()


async def test_rank_that_refuses_long_passages_does_so_before_the_model_reads_any(session):
    """One passage beyond the model's tokens refuses the call."""
    session.gate.set()
    ranker = PassageRanker(cross_encoder(session, queue_max=8, tokens_max=4), queue_requests_max=8)
    with pytest.raises(InvalidInput):
        await ranker.rank(candidates("a", "bcdef", refuse_long=True))
    assert session.started_so_far() == []
    ranker.close()


@given(logits=st.lists(st.floats(-1000, 1000), min_size=1, max_size=9))
def test_to_response_with_sigmoid_of_any_logits_stays_in_order_between_zero_and_one(logits):
    """No logit overflows, and a sigmoid that saturates changes no place."""
    ranked = sorted(
        (Ranked(index=i, logit=x, windows=1, truncated=False) for i, x in enumerate(logits)), key=lambda one: -one.logit
    )
    ranking = Ranking(results=ranked, token_count=0, queue_s=0.0, tokenize_s=0.0, inference_s=0.0)
    reply = to_response(ranking, pb.RerankRequest(sigmoid=True), 0.0)
    scores = [result.score for result in reply.results]
    assert [result.index for result in reply.results] == [one.index for one in ranked]
    assert scores == sorted(scores, reverse=True)
    assert all(0.0 <= score <= 1.0 for score in scores)


async def test_check_room_refuses_what_rank_would(session):
    """A queue too long for the deadline, with a hint; a deadline that has passed; nothing else."""
    encoder = cross_encoder(session, queue_max=8)
    ranker = PassageRanker(encoder, queue_requests_max=8)
    servicer = RerankerServicer({"fake": ranker}, None, None)
    encoder._pace.measured(1, 100.0)
    call = asyncio.create_task(ranker.rank(Candidates(query="q", passages=["a", "b"], windows_max=1)))
    async with asyncio.timeout(WAIT_S):
        while encoder.waiting < 1:  # noqa: ASYNC110 - what is waited for happens on a thread
            await asyncio.sleep(0)
    request = pb.RerankRequest(query="q", passages=["c"])
    with pytest.raises(Overloaded) as refused:
        servicer.check_room(request, time.monotonic() + 10.0)
    assert refused.value.retry_after_s > 0
    with pytest.raises(DeadlineTooShort):
        servicer.check_room(request, time.monotonic() - 1.0)
    servicer.check_room(request, time.monotonic() + 1000.0)
    servicer.check_room(pb.RerankRequest(model="unknown"), time.monotonic() + 10.0)
    session.gate.set()
    await call
    ranker.close()
