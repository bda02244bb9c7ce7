"""Orders after the first stage, feedback, and the parts of a ranking that pages are."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.gateway.fakes import COLLECTION, candidate, collection_record

from gannet.gateway.v1.search_pb2 import SearchOptions, SearchRequest
from gannet_gateway.clients import QueryVectors
from gannet_gateway.config import GatewayConfig
from gannet_gateway.search import wire
from gannet_gateway.search.feedback import TERMS_MAX, moved_dense, moved_sparse
from gannet_gateway.search.query import Feedback, Options, Page, Query, Result, Timings
from gannet_gateway.search.ranking import Ranked, at_most_of_a_document, diversified, unranked
from gannet_gateway.search.search import GROUPED_DEPTH_MAX, Searcher
from gannet_gateway.vectors.lists import Found
from gannet_gateway.vectors.points import DENSE, SPARSE, Sparse
from gannet_gateway.vectors.retriever import Wanted
from gannet_gateway.vectors.visible import Snapshot
from gannet_service.errors import InvalidInput

CONFIG = GatewayConfig()
RECORD = collection_record(rerank=False)
QUERY_VECTOR = np.array([1, 0], np.float32)


def found(document: str, ordinal: int, score: float = 0.0, vector: list[float] | None = None) -> Found:
    """One candidate of a document."""
    one = replace(candidate(ordinal, score=score), document=COLLECTION.document(document))
    return Found(candidate=one, dense_vector=None if vector is None else np.array(vector, np.float32))


def sparse(**terms: float) -> Sparse:
    """A sparse vector; terms are written t1, t2 and so on."""
    ordered = sorted((int(term[1:]), value) for term, value in terms.items())
    return Sparse(
        indices=np.array([term for term, _ in ordered], np.uint32),
        values=np.array([value for _, value in ordered], np.float32),
    )


@given(st.lists(st.sampled_from("abc"), max_size=20), st.integers(1, 3))
def test_at_most_of_a_document_keeps_the_best_in_order(documents: list[str], most: int):
    """Each document's first ones, and nothing moves."""
    everything = [found(document, place) for place, document in enumerate(documents)]
    kept = at_most_of_a_document(everything, most)
    assert kept == [one for place, one in enumerate(everything) if documents[:place].count(documents[place]) < most]


def test_diversified_prefers_what_is_unlike():
    """A near copy of the best gives way to a worse passage about something else; with balance 1 it does not."""
    ranked = unranked([found("a", 0, 1.0, [1, 0]), found("b", 0, 0.9, [1, 0]), found("c", 0, 0.5, [0, 1])])
    assert [one.found.candidate.document.document for one in diversified(ranked, 2, 0.5)] == ["a", "c"]
    assert [one.found.candidate.document.document for one in diversified(ranked, 2, 1.0)] == ["a", "b"]
    assert diversified([], 2, 0.5) == []


def test_moved_dense_goes_towards_the_passages_and_keeps_its_length():
    """Rocchio's mean."""
    moved = moved_dense(QUERY_VECTOR, [found("a", 0, 0, [0, 1]), found("b", 0, 0, [0, 1])], 1.0)
    assert moved.tolist() == pytest.approx([2**-0.5, 2**-0.5])
    assert moved_dense(QUERY_VECTOR, [], 1.0) is QUERY_VECTOR


def test_moved_sparse_adds_the_weightiest_terms_with_their_share():
    """The added terms together weigh `weight` times the query; terms of both add up; the vector stays one that an index takes."""
    best = [
        replace(found("a", 0), sparse_vector=sparse(t5=3, t7=1)),
        replace(found("b", 0), sparse_vector=sparse(t7=2, t9=2)),
    ]
    moved = moved_sparse(sparse(t5=1, t6=1), best, 0.5)
    assert moved.indices.tolist() == [5, 6, 7, 9]
    assert moved.values.tolist() == pytest.approx([1 + 3 / 8, 1, 3 / 8, 2 / 8])
    many = replace(found("c", 0), sparse_vector=sparse(**{f"t{term}": term for term in range(1, 100)}))
    added = moved_sparse(sparse(t1=1), [many], 1.0)
    assert added.indices.tolist() == [1, *range(100 - TERMS_MAX, 100)]
    assert moved_sparse(sparse(t1=1), [], 1.0).indices.tolist() == [1]


# ---- the whole search ---------------------------------------------------------------------------------------------


class Store:
    """A vector store with a fixed ranking; notes what it was asked."""

    def __init__(self, ranking: list[Found]) -> None:
        self.ranking = ranking
        self.asked: list[Wanted] = []

    async def search(self, _snapshot: Snapshot, wanted: Wanted) -> list[Found]:
        """The first of the ranking."""
        self.asked.append(wanted)
        return self.ranking[: wanted.limit]

    async def neighbours(self, _snapshot: Snapshot, candidates: Any, reach: int) -> Any:
        """The ordinals around each."""
        return [
            tuple(replace(one, ordinal=one.ordinal + step) for step in range(-reach, reach + 1) if step)
            for one in candidates
        ]


class Embedder:
    """One vector for everything."""

    async def query(self, _text: str, **_options: Any) -> QueryVectors:
        """As the real one."""
        return QueryVectors(dense=QUERY_VECTOR, sparse=None)


async def search(store: Store, options: Options, page: Page | None = None) -> Result:
    """One search without reranking."""
    query = Query.of("word", options, RECORD, CONFIG, top_k_default=10, page=page)
    return await Searcher(Embedder(), store, None, CONFIG).search(RECORD, query)


async def test_search_looks_deeper_until_enough_documents_are_there():
    """One document with 50 of the best passages does not hide the others."""
    ranking = [found("long", ordinal) for ordinal in range(50)] + [found(f"d{place}", 0) for place in range(9)]
    store = Store(ranking)
    result = await search(store, Options(top_k=5, max_per_document=2))
    names = [(passage.candidate.document.document, passage.candidate.ordinal) for passage in result.passages]
    assert names == [("long", 0), ("long", 1), ("d0", 0), ("d1", 0), ("d2", 0)]
    assert [wanted.limit for wanted in store.asked] == [5, 20, 80]


async def test_search_for_other_documents_has_a_bound():
    """A collection of one document is looked through once, and no deeper than the bound."""
    store = Store([found("long", ordinal) for ordinal in range(5000)])
    assert len((await search(store, Options(top_k=5, max_per_document=1))).passages) == 1
    assert store.asked[-1].limit == GROUPED_DEPTH_MAX


@given(st.integers(0, 40), st.integers(1, 12), st.integers(1, 40))
async def test_pages_joined_are_the_ranking(size: int, top_k: int, depth: int):
    """No passage twice, none left out, and the token ends where the ranking or the depth does."""
    store = Store([found("d", ordinal) for ordinal in range(size)])
    request = SearchRequest(query="word", options=SearchOptions(top_k=top_k), paging_depth=depth)
    ordinals: list[int] = []
    while True:
        page = wire.to_page(request, COLLECTION)
        query = Query.of("word", Options(top_k=top_k), RECORD, CONFIG, top_k_default=10, page=page)
        result = await Searcher(Embedder(), store, None, CONFIG).search(RECORD, query)
        ordinals += [passage.candidate.ordinal for passage in result.passages]
        request.page_token = wire.next_page_token(request, COLLECTION, result, query.offset + query.top_k)
        if not request.page_token:
            break
        assert wire.to_page(request, COLLECTION).generation == RECORD.generation
    assert ordinals == list(range(min(size, max(top_k, depth))))


@pytest.mark.parametrize(
    "change",
    [
        {"query": "other"},
        {"options": SearchOptions(top_k=3)},
        {"paging_depth": 9},
        {"page_token": "AAAA"},
        {"page_token": "é"},
    ],
)
def test_to_page_refuses_a_token_of_another_search(change: dict[str, Any]):
    """A token belongs to all that was asked, and to the collection."""
    asked: dict[str, Any] = {"query": "q", "options": SearchOptions(top_k=2), "paging_depth": 10}
    timings = Timings(embed_us=0, search_us=0, rerank_us=0, total_us=0)
    result = Result(mode=Options().mode, passages=(), is_last=False, generation=4, degraded=(), timings=timings)
    token = wire.next_page_token(SearchRequest(**asked), COLLECTION, result, 2)
    assert wire.to_page(SearchRequest(**asked, page_token=token), COLLECTION) == Page(depth=10, offset=2, generation=4)
    for request, collection in (
        (SearchRequest(**({"page_token": token} | asked | change)), COLLECTION),
        (SearchRequest(**asked, page_token=token), replace(COLLECTION, collection="more")),
    ):
        with pytest.raises(InvalidInput) as caught:
            wire.to_page(request, collection)
        assert caught.value.field == "page_token"


async def test_search_with_feedback_asks_twice_the_second_time_for_more_than_the_query():
    """The first search is for the passages that the second one moves towards."""
    best = replace(found("a", 0, 1.0, [0, 1]), sparse_vector=sparse(t9=1))
    store = Store([best] * 20)
    await search(store, Options(top_k=4, feedback=Feedback(passages=2, weight=1.0)))
    first, second = store.asked
    assert (first.limit, first.vectors, first.dense.tolist()) == (2, (DENSE, SPARSE), [1, 0])
    assert (second.limit, second.vectors, second.dense.tolist()) == (4, (), pytest.approx([2**-0.5, 2**-0.5]))
    assert set(second.sparse.indices.tolist()) == {*first.sparse.indices.tolist(), 9}


async def test_search_with_diversity_chooses_from_a_pool():
    """More candidates than are wanted, with their vectors."""
    store = Store([found("a", place, 1 - place / 100, [1, 0]) for place in range(40)] + [found("z", 0, 0.1, [0, 1])])
    result = await search(store, Options(top_k=2, diversity_balance=0.3))
    assert (store.asked[0].limit, store.asked[0].vectors) == (50, (DENSE,))
    assert [passage.candidate.document.document for passage in result.passages] == ["a", "z"]


async def test_search_with_neighbours_gives_them_to_each_passage():
    """Those of the page, in its order."""
    result = await search(Store([found("a", 5), found("b", 7)]), Options(neighbours=1))
    assert [[one.ordinal for one in passage.neighbours] for passage in result.passages] == [[4, 6], [6, 8]]
    (message, _) = wire.from_result(result, "").passages
    assert [one.name[-8:] for one in message.neighbours] == ["chunks/4", "chunks/6"]
    assert not message.neighbours[0].HasField("scores")


@pytest.mark.parametrize(
    "options, field",
    [
        (Options(top_k=101, neighbours=1), "options.neighbours"),
        (Options(top_k=201, diversity_balance=0.5), "options.diversity"),
        (Options(top_k=5, rerank=True), "options.top_k"),
    ],
)
def test_query_out_of_bounds_together_is_refused(options: Options, field: str):
    """Limits that only show once defaults and paging are known."""
    with pytest.raises(InvalidInput) as caught:
        Query.of("q", options, RECORD, CONFIG, top_k_default=10, page=Page(depth=300))
    assert caught.value.field == field


def test_ranked_is_what_is_ranked():
    """The first stage's order as it is."""
    assert unranked([found("a", 0, 0.5)]) == [Ranked(found("a", 0, 0.5), 0.5)]
