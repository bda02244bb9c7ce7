"""What the vector store is asked, and how lists are fused here."""

import asyncio
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qdrant_client import grpc, models
from qdrant_client.conversions.conversion import GrpcToRest, payload_to_grpc
from unit.gateway.fakes import COLLECTION, candidate

from gannet_gateway.batching import Batching
from gannet_gateway.names import CollectionName
from gannet_gateway.search.filter import parse
from gannet_gateway.vectors import lists
from gannet_gateway.vectors.lists import Found, Fusion, Method, Placed
from gannet_gateway.vectors.points import CANDIDATE_FIELDS, Candidate, PassagePoint, Sparse
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
    """Notes the requests and finds nothing, once it is let."""

    def __init__(self) -> None:
        self.requests: list[grpc.QueryBatchPoints] = []
        self.timeout = 0
        self.answers = asyncio.Event()
        self.answers.set()
        self.grpc_points = self

    @property
    def asked(self) -> list[grpc.QueryPoints]:
        """All queries, in order."""
        return [query for request in self.requests for query in request.query_points]

    async def QueryBatch(self, request: grpc.QueryBatchPoints, *, timeout: int) -> grpc.QueryBatchResponse:  # noqa: ASYNC109, N802
        """As the real client."""
        self.timeout = timeout
        self.requests.append(request)
        await self.answers.wait()
        return grpc.QueryBatchResponse(result=[grpc.BatchResult() for _ in request.query_points])


VISIBLE = {
    "tenant": models.MatchValue(value="acme"),
    "collection": models.MatchValue(value="docs"),
    "gen_from": models.Range(lte=7),
    "gen_to": models.Range(gt=7),
    "readers": models.MatchAny(any=["*", "group:eng", "user:ann"]),
}


def conditions(found: models.Filter | grpc.Filter) -> dict[str, Any]:
    """A filter as name and condition; everything must hold."""
    if isinstance(found, grpc.Filter):
        assert [field.name for field, _ in found.ListFields()] == ["must"]
        found = GrpcToRest.convert_filter(found)
    assert not any((found.must_not, found.should, found.min_should))
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


async def asked_for(dense: Any, sparse: Any, limit: int = 10, **options: Any) -> list[grpc.QueryPoints]:
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
    assert [prefetch.score_threshold for prefetch in asked.prefetch if prefetch.HasField("score_threshold")] == [0.25]
    assert conditions(asked.prefetch[1].params.idf.corpus) == VISIBLE
    assert asked.query.rrf == grpc.Rrf(k=60, weights=[1.0, 2.0])


@pytest.mark.parametrize("dense, sparse", [(DENSE, None), (None, SPARSE), (DENSE, NO_TERMS)])
async def test_search_of_one_stage_is_filtered(dense: Any, sparse: Any):
    """Also without fusion; a query of stop words is a dense query."""
    (asked,) = await asked_for(dense, sparse)
    assert not asked.prefetch
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
    assert {prefetch.using for prefetch in asked.prefetch if prefetch.score_threshold == 0.25} == {"dense"}
    assert not any(prefetch.HasField("score_threshold") for prefetch in asked.prefetch if prefetch.using == "bm25")
    assert asked.query.rrf == grpc.Rrf(k=60, weights=[1.0, 2.0, 0.5, 1.0, 0.25])


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
        *seen, caller = GrpcToRest.convert_filter(asked.filter).must
        assert {condition.key: condition.match or condition.range for condition in seen} == VISIBLE
        assert (caller.key, caller.range) == ("metadata.year", models.Range(gte=2024, lte=2024))
    assert (dense.using, dense.score_threshold, sparse.using) == ("dense", 0.5, "bm25")
    assert not sparse.HasField("score_threshold")
    assert conditions(sparse.params.idf.corpus) == VISIBLE
    assert list(dense.with_vectors.include.names) == (["dense"] if "exact" in options else [])


async def searched(client: Client, *searches: tuple[Snapshot, Wanted]) -> None:
    """Searches that are made while two requests are under way already."""
    retriever = Retriever(client, timeout_s=5, batching=Batching(in_flight=2, wait_s=60))
    client.answers.clear()
    wanted = Wanted(dense=DENSE, sparse=None, fusion=FUSION, limit=1)
    async with asyncio.TaskGroup() as group:
        for one in [(SNAPSHOT, wanted), (SNAPSHOT, wanted), *searches]:
            group.create_task(retriever.search(*one))
        await asyncio.sleep(0)
        client.answers.set()


async def test_searches_share_a_request_and_keep_their_filters():
    """What another tenant asks for at the same time is in the same request, under its own filter."""
    client, other = Client(), replace(SNAPSHOT, collection=CollectionName("other", "docs"))
    wanted = Wanted(dense=DENSE, sparse=SPARSE, fusion=FUSION, limit=10)
    await searched(client, (SNAPSHOT, wanted), (other, wanted))
    assert [len(request.query_points) for request in client.requests] == [1, 1, 2]
    ours, theirs = client.requests[-1].query_points
    for query, expected in ((ours, VISIBLE), (theirs, VISIBLE | {"tenant": models.MatchValue(value="other")})):
        for prefetch in query.prefetch:
            assert conditions(prefetch.filter) == expected
        assert conditions(query.prefetch[1].params.idf.corpus) == expected


@pytest.mark.parametrize(
    "options",
    [
        {"narrowed": parse("metadata.year = 2024", "filter", bytes_max=100)},
        {"vectors": ("dense",)},
        {"limit": 101},
        {"phrasings": (Phrasing(dense=DENSE, sparse=None, weight=0.5),)},
        {"exact": True},
    ],
)
async def test_searches_that_cost_more_or_hold_what_a_caller_wrote_go_alone(options: dict[str, Any]):
    """Nobody else waits for them, or fails with them."""
    client = Client()
    wanted = Wanted(**({"limit": 10} | options), dense=DENSE, sparse=None, fusion=FUSION)
    await searched(client, (SNAPSHOT, wanted), (SNAPSHOT, wanted))
    assert [len(request.query_points) for request in client.requests] == [1, 1, 1, 1]


async def test_filter_of_another_generation_is_another_filter():
    """Filters are kept as messages, each under all that it is made of."""
    client = Client()
    retriever = Retriever(client, timeout_s=5)
    for generation in (7, 8, 7):
        wanted = Wanted(dense=DENSE, sparse=None, fusion=FUSION, limit=1)
        await retriever.search(replace(SNAPSHOT, generation=generation), wanted)
    seen = [conditions(query.filter)["gen_from"] for query in client.asked]
    assert seen == [models.Range(lte=7), models.Range(lte=8), models.Range(lte=7)]


def test_candidate_is_read_from_what_the_search_asks_for():
    """The fields of a payload that a search names are those that a candidate needs."""
    stored = PassagePoint(
        document=COLLECTION.document("a.md"),
        revision=2,
        attempt="x",
        ordinal=5,
        text="t",
        start_byte=1,
        end_byte=2,
        title="T",
        metadata={"year": 2024.0, "tags": ["a"]},
        dense=DENSE,
        sparse=SPARSE,
    ).payload()
    payload = payload_to_grpc({name: stored[name] for name in CANDIDATE_FIELDS})
    found = lists.of_point(grpc.ScoredPoint(payload=payload, score=0.5), None)
    assert found == Found(candidate=Candidate.of(stored, 0.5))
    vectors = {
        "dense": grpc.VectorOutput(dense=grpc.DenseVector(data=[1, 2])),
        "bm25": grpc.VectorOutput(sparse=grpc.SparseVector(indices=[3], values=[1.5])),
    }
    both = grpc.VectorsOutput(vectors=grpc.NamedVectorsOutput(vectors=vectors))
    found = lists.of_point(grpc.ScoredPoint(payload=payload, score=0.5, vectors=both), "dense")
    assert (found.dense, found.sparse) == (Placed(score=0.5), None)
    assert found.dense_vector.tolist() == [1, 2]
    assert (found.sparse_vector.indices.tolist(), found.sparse_vector.values.tolist()) == ([3], [1.5])


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
