"""What the vector store is asked, and how lists are fused here."""

import asyncio
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qdrant_client import models
from unit.gateway.fakes import COLLECTION, candidate

from gannet_gateway.search.filter import parse
from gannet_gateway.vectors import lists
from gannet_gateway.vectors.lists import Found, Fusion, Method, Placed
from gannet_gateway.vectors.points import Sparse
from gannet_gateway.vectors.retriever import Phrasing, Retriever, Wanted
from gannet_gateway.vectors.visible import Snapshot, passages
from gannet_service import call

FUSION = Fusion(k=60, dense_weight=1.0, sparse_weight=2.0)
DENSE = np.array([0.1, 0.2], np.float32)
SPARSE = Sparse(indices=np.array([3], np.uint32), values=np.array([1.5], np.float32))
NO_TERMS = Sparse(indices=np.array([], np.uint32), values=np.array([], np.float32))
SNAPSHOT = Snapshot(
    collection=COLLECTION, generation=7, qdrant_collection="gannet-m", identities=("group:eng", "user:ann")
)


class Client:
    """Notes the request and finds nothing."""

    def __init__(self) -> None:
        self.asked: list[models.QueryRequest] = []
        self.timeout = 0

    async def query_batch_points(self, _collection: str, requests: list[models.QueryRequest], *, timeout: int) -> Any:  # noqa: ASYNC109
        """As the real client."""
        self.asked, self.timeout = requests, timeout
        return [SimpleNamespace(points=[]) for _ in requests]


VISIBLE = {
    "tenant": models.MatchValue(value="acme"),
    "collection": models.MatchValue(value="docs"),
    "gen_from": models.Range(lte=7),
    "gen_to": models.Range(gt=7),
    "readers": models.MatchAny(any=["*", "group:eng", "user:ann"]),
}


def conditions(found: models.Filter) -> dict[str, Any]:
    """A filter as name and condition; everything must hold."""
    assert found.must_not is found.should is found.min_should is None
    return {condition.key: condition.match or condition.range for condition in found.must}


def test_passages_of_a_document_are_those_of_the_visible_filter():
    """With the document and the place as further conditions."""
    found = passages(SNAPSHOT, "a.md", 5, 9)
    inside, *others = found.must
    assert conditions(inside) == VISIBLE
    assert conditions(models.Filter(must=others)) == {
        "document": models.MatchValue(value="a.md"),
        "ordinal": models.Range(gte=5, lte=9),
    }


async def asked_for(dense: Any, sparse: Any, limit: int = 10, **options: Any) -> list[models.QueryRequest]:
    """The requests of one search."""
    client = Client()
    wanted = Wanted(**({"fusion": FUSION} | options), dense=dense, sparse=sparse, limit=limit)
    await Retriever(client, timeout_s=5).search(SNAPSHOT, wanted)
    return client.asked


async def test_hybrid_search_filters_every_prefetch():
    """Tenant, collection and generation are in each stage, and in the corpus of BM25's statistics."""
    (asked,) = await asked_for(DENSE, SPARSE, dense_score_min=0.25)
    assert [prefetch.using for prefetch in asked.prefetch] == ["dense", "bm25"]
    for prefetch in asked.prefetch:
        assert conditions(prefetch.filter) == VISIBLE
        assert prefetch.limit >= 10
    assert [prefetch.score_threshold for prefetch in asked.prefetch] == [0.25, None]
    assert conditions(asked.prefetch[1].params.idf.corpus) == VISIBLE
    assert asked.query.rrf == models.Rrf(k=60, weights=[1.0, 2.0])


@pytest.mark.parametrize("dense, sparse", [(DENSE, None), (None, SPARSE), (DENSE, NO_TERMS)])
async def test_search_of_one_stage_is_filtered(dense: Any, sparse: Any):
    """Also without fusion; a query of stop words is a dense query."""
    (asked,) = await asked_for(dense, sparse)
    assert asked.prefetch is None
    assert conditions(asked.filter) == VISIBLE
    if dense is None:
        assert conditions(asked.params.idf.corpus) == VISIBLE


async def test_sparse_search_of_stop_words_asks_nothing():
    """No term, no passage."""
    assert await asked_for(None, NO_TERMS) == []


async def test_search_of_several_phrasings_filters_and_weighs_every_prefetch():
    """A phrasing's lists are looked up as the query's own are, and weigh what it weighs of them; one without terms has one list."""
    others = (
        Phrasing(dense=DENSE, sparse=SPARSE, weight=0.5),
        Phrasing(dense=DENSE, sparse=NO_TERMS, weight=0.25),
    )
    (asked,) = await asked_for(DENSE, SPARSE, dense_score_min=0.25, phrasings=others)
    assert [prefetch.using for prefetch in asked.prefetch] == ["dense", "bm25", "dense", "bm25", "dense"]
    for prefetch in asked.prefetch:
        assert conditions(prefetch.filter) == VISIBLE
        if prefetch.using == "bm25":
            assert conditions(prefetch.params.idf.corpus) == VISIBLE
    assert [prefetch.score_threshold for prefetch in asked.prefetch] == [0.25, None, 0.25, None, 0.25]
    assert asked.query.rrf == models.Rrf(k=60, weights=[1.0, 2.0, 0.5, 1.0, 0.25])


async def test_search_of_a_phrasing_alone_is_a_fusion():
    """A query of stop words in a search by words: what is found has a fusion's score, as the reply says."""
    (asked,) = await asked_for(None, NO_TERMS, phrasings=(Phrasing(dense=None, sparse=SPARSE, weight=0.5),))
    assert ([prefetch.using for prefetch in asked.prefetch], asked.query.rrf.weights) == (["bm25"], [1.0])


def test_lists_of_phrasings_fused_here_are_fused_as_qdrant_does():
    """Every list adds its reciprocal rank; places are those in the query's own lists, and none for what only a phrasing found."""
    own, both, other = (Found(candidate=candidate(ordinal, score=1.0)) for ordinal in range(3))
    found = lists.fused([own, both], None, FUSION, [([other, both], 0.5)])
    scores = {one.candidate.ordinal: one.candidate.score for one in found}
    assert scores == pytest.approx({0: 1 / 60, 1: 1 / 61 + 1 / (2 / 0.5 + 59), 2: 1 / (1 / 0.5 + 59)})
    ranks = {one.candidate.ordinal: one.dense and one.dense.rank for one in found}
    assert ranks == {0: 1, 1: 2, 2: None}


async def test_hybrid_search_for_many_bounds_its_prefetch():
    """Deeper than what is wanted, and never deeper than the bound."""
    for limit in (1, 10, 1000, 10_000):
        (asked,) = await asked_for(DENSE, SPARSE, limit)
        (depth,) = {prefetch.limit for prefetch in asked.prefetch}
        assert 50 <= depth <= 4000


async def test_search_in_one_loop_with_others_keeps_its_call():
    """Two callers at once are asked for with their own deadlines."""

    async def one(deadline_s: float) -> float:
        call.set_current(call.Call(method="m", request_id="r", deadline=time.monotonic() + deadline_s))
        client = Client()
        wanted = Wanted(dense=DENSE, sparse=None, fusion=FUSION, limit=1)
        await Retriever(client, timeout_s=5).search(SNAPSHOT, wanted)
        return client.timeout

    assert await asyncio.gather(*(asyncio.create_task(one(seconds)) for seconds in (2, 30))) == [2, 5]


@pytest.mark.parametrize(
    "options", [{"explain": True}, {"exact": True}, {"fusion": replace(FUSION, method=Method.RELATIVE_SCORE)}]
)
async def test_search_by_lists_filters_every_list(options: dict[str, Any]):
    """What the gateway fuses itself sees no more than what Qdrant fuses; the caller's filter narrows, and not the statistics."""
    narrowed = parse("metadata.year = 2024", "filter", bytes_max=100)
    dense, sparse = await asked_for(DENSE, SPARSE, narrowed=narrowed, dense_score_min=0.5, **options)
    for asked in (dense, sparse):
        *seen, caller = asked.filter.must
        assert {condition.key: condition.match or condition.range for condition in seen} == VISIBLE
        assert (caller.key, caller.range) == ("metadata.year", models.Range(gte=2024, lte=2024))
    assert (dense.using, dense.score_threshold, sparse.using, sparse.score_threshold) == ("dense", 0.5, "bm25", None)
    assert conditions(sparse.params.idf.corpus) == VISIBLE
    assert bool(dense.with_vector) == ("exact" in options)


# ---- lists --------------------------------------------------------------------------------------------------------


def listed(*ordinals: int, scores: list[float] | None = None) -> list[Found]:
    """A stage's list."""
    scores = scores or [1 / (place + 1) for place in range(len(ordinals))]
    return [Found(candidate=candidate(one, score=score)) for one, score in zip(ordinals, scores, strict=True)]


UNIQUE = st.lists(st.integers(0, 12), unique=True, max_size=12)


@given(UNIQUE, UNIQUE, st.integers(1, 100), st.floats(0.01, 100), st.floats(0.01, 100))
def test_fused_by_reciprocal_rank_is_the_formula(
    dense: list[int], sparse: list[int], k: int, dense_weight: float, sparse_weight: float
):
    """The formula over every candidate of either list, each once, with its rank in each."""
    fusion = Fusion(k=k, dense_weight=dense_weight, sparse_weight=sparse_weight)
    found = {one.candidate.ordinal: one for one in lists.fused(listed(*dense), listed(*sparse), fusion)}
    assert set(found) == {*dense, *sparse}
    for ordinal, one in found.items():
        expected = 0.0
        for ranking, weight, placed in ((dense, dense_weight, one.dense), (sparse, sparse_weight, one.sparse)):
            if ordinal in ranking:
                expected += 1 / ((ranking.index(ordinal) + 1) / weight + k - 1)
            assert (placed.rank if placed else None) == (ranking.index(ordinal) + 1 if ordinal in ranking else None)
        assert one.candidate.score == pytest.approx(expected)


def test_fused_by_relative_score_keeps_distances():
    """The best of a list counts its whole weight, the worst nothing, what lies between its share."""
    fusion = Fusion(method=Method.RELATIVE_SCORE, k=60, dense_weight=3.0, sparse_weight=1.0)
    dense, sparse = listed(1, 2, 3, scores=[0.9, 0.8, 0.4]), listed(3, 4, scores=[20.0, 10.0])
    found = {one.candidate.ordinal: one.candidate.score for one in lists.fused(dense, sparse, fusion)}
    assert found == pytest.approx({1: 0.75, 2: 0.75 * 0.8, 3: 0.25, 4: 0.0})


def with_vectors(*rows: list[float]) -> list[Found]:
    """A list with a vector each, of length 1."""
    return [
        replace(one, dense_vector=np.array(row, np.float32))
        for one, row in zip(listed(*range(len(rows))), rows, strict=True)
    ]


def test_rescored_uses_the_full_vectors_and_drops_what_falls_below():
    """A quantised score is replaced by the cosine."""
    found = with_vectors([0.6, 0.8], [0, 1], [1, 0])
    rescored = lists.rescored(np.array([2, 0], np.float32), found, 3, 0.5)
    assert [(one.candidate.ordinal, round(one.candidate.score, 4)) for one in rescored] == [(2, 1.0), (0, 0.6)]
    assert [one.dense for one in rescored] == [Placed(score=one.candidate.score) for one in rescored]
    assert lists.rescored(np.array([2, 0], np.float32), [], 3, None) == []


def test_rescored_keeps_the_best_and_of_equals_the_first():
    """No more than were wanted; passages that say the same keep their order. A query of zeros is like none of them."""
    found = with_vectors([0, 1], [1, 0], [1, 0], [1, 0])
    for query, kept in (([1, 0], [1, 2]), ([0, 0], [0, 1])):
        rescored = lists.rescored(np.array(query, np.float32), found, 2, None)
        assert [one.candidate.ordinal for one in rescored] == kept
