import asyncio
import uuid

import pytest
from integration.edge.edge_server import COLLECTION, point
from qdrant_client import AsyncQdrantClient, models

from gannet_edge.redundant import LOOKS_MIN

MUST_T1 = models.Filter(must=[models.FieldCondition(key="tenant", match=models.MatchValue(value="t1"))])
DENSE = [1.0, 2.0, 0.0, 0.5]


async def upsert(client, *points):
    await client.upsert(COLLECTION, list(points), wait=True)


async def test_upsert_then_retrieve_returns_payload_and_vectors(client: AsyncQdrantClient):
    """What was stored comes back: nested payloads, sparse vectors as given, dense vectors normalised for cosine."""
    identifier = str(uuid.uuid5(uuid.NAMESPACE_URL, "one"))
    payload = {"text": "naïve", "n": 2**53 - 1, "x": 1.5, "list": [1, None, True, {"deep": "er"}], "empty": {}}
    vectors = {"dense": [3.0, 0.0, 4.0, 0.0], "bm25": models.SparseVector(indices=[3, 70_000], values=[0.5, 2.0])}
    await upsert(client, models.PointStruct(id=identifier, vector=vectors, payload=payload))
    (record,) = await client.retrieve(COLLECTION, [identifier, 5], with_payload=True, with_vectors=True)
    assert record.id == identifier
    assert record.payload == payload
    assert record.vector["dense"] == pytest.approx([0.6, 0.0, 0.8, 0.0])
    assert record.vector["bm25"] == vectors["bm25"]


async def test_retrieve_with_selectors_returns_only_what_they_name(client: AsyncQdrantClient):
    """Payload and vector selectors leave the rest out."""
    await upsert(client, point(1, text="long"))
    (included,) = await client.retrieve(COLLECTION, [1], with_payload=["text"], with_vectors=["bm25"])
    assert (included.payload, list(included.vector)) == ({"text": "long"}, ["bm25"])
    exclude = models.PayloadSelectorExclude(exclude=["text", "gen_from", "gen_to"])
    (excluded,) = await client.retrieve(COLLECTION, [1], with_payload=exclude)
    assert (excluded.payload, excluded.vector) == ({"tenant": "t1"}, None)


async def test_query_hybrid_fuses_both_prefetches_by_weighted_rank(client: AsyncQdrantClient):
    """Scores follow 1 / ((position + 1) / weight + k - 1), summed over the prefetches that found the point."""
    await upsert(client, *(point(number) for number in range(6)))
    k, weights = 60, [2.0, 1.0]
    prefetch = [
        models.Prefetch(query=DENSE, using="dense", limit=3, filter=MUST_T1),
        models.Prefetch(query=models.SparseVector(indices=[14], values=[1.0]), using="bm25", limit=3, filter=MUST_T1),
    ]
    nearest = (await client.query_points(COLLECTION, query=DENSE, using="dense", limit=3)).points
    expected = {hit.id: 1 / ((at + 1) / weights[0] + k - 1) for at, hit in enumerate(nearest)}
    expected[4] = expected.get(4, 0.0) + 1 / (1 / weights[1] + k - 1)
    answer = await client.query_points(
        COLLECTION, prefetch=prefetch, query=models.RrfQuery(rrf=models.Rrf(k=k, weights=weights)), limit=10
    )
    assert {hit.id: hit.score for hit in answer.points} == pytest.approx(expected)


async def test_query_prefetch_filter_and_threshold_bound_each_prefetch(client: AsyncQdrantClient):
    """No prefetch lets another tenant's points or irrelevant ones into the fusion."""
    await upsert(client, *(point(number, tenant="t1" if number % 2 else "t2") for number in range(6)))
    common = models.SparseVector(indices=[1], values=[1.0])
    prefetch = [
        models.Prefetch(query=DENSE, using="dense", limit=10, filter=MUST_T1, score_threshold=0.98),
        models.Prefetch(query=common, using="bm25", limit=2, filter=MUST_T1),
    ]
    rrf = models.RrfQuery(rrf=models.Rrf(k=60))
    dense_only = await client.query_points(COLLECTION, prefetch=prefetch[:1], query=rrf, limit=10)
    both = await client.query_points(COLLECTION, prefetch=prefetch, query=rrf, limit=10, with_payload=True)
    nearest = await client.query_points(COLLECTION, query=DENSE, using="dense", score_threshold=0.98, limit=10)
    relevant = {hit.id for hit in nearest.points if hit.id % 2}
    assert {hit.id for hit in dense_only.points} == relevant
    assert {hit.payload["tenant"] for hit in both.points} == {"t1"}
    assert len(both.points) <= len(relevant) + 2


async def test_query_filter_and_threshold_bound_the_dense_results(client: AsyncQdrantClient):
    """Only matching points above the threshold are found, best first, and the offset skips from the front."""
    await upsert(client, *(point(number, tenant="t1" if number % 2 else "t2") for number in range(8)))
    answer = await client.query_points(
        COLLECTION, query=DENSE, using="dense", query_filter=MUST_T1, score_threshold=0.9, limit=10, with_payload=True
    )
    scores = [hit.score for hit in answer.points]
    assert scores == sorted(scores, reverse=True)
    assert {hit.payload["tenant"] for hit in answer.points} == {"t1"}
    assert min(scores) >= 0.9
    rest = await client.query_points(
        COLLECTION, query=DENSE, using="dense", query_filter=MUST_T1, score_threshold=0.9, offset=1
    )
    assert [hit.id for hit in rest.points] == [hit.id for hit in answer.points[1:]]


async def test_query_idf_corpus_hides_other_tenants_statistics(client: AsyncQdrantClient):
    """A tenant's BM25 scores do not move when another tenant stores the same terms, if the corpus is scoped to it."""
    query = models.SparseVector(indices=[11], values=[1.0])
    scoped = models.SearchParams(idf=models.IdfCorpusParams(corpus=MUST_T1))

    async def scores(params):
        answer = await client.query_points(
            COLLECTION, query=query, using="bm25", query_filter=MUST_T1, search_params=params
        )
        return [hit.score for hit in answer.points]

    await upsert(client, *(point(number) for number in range(4)))
    alone_scoped, alone_global = await scores(scoped), await scores(None)
    others = [
        models.PointStruct(
            id=n, vector={"bm25": models.SparseVector(indices=[11], values=[1.0])}, payload={"tenant": "t2"}
        )
        for n in range(100, 150)
    ]
    await upsert(client, *others)
    assert await scores(scoped) == pytest.approx(alone_scoped)
    assert await scores(None) != pytest.approx(alone_global)


async def test_query_that_comes_again_and_again_is_still_filtered(client: AsyncQdrantClient):
    """Conditions that every point meets are left out after a while, without a trace in the answer, until a point does not meet them."""
    await upsert(client, *(point(number) for number in range(6)))
    query = models.SparseVector(indices=[11], values=[1.0])
    scoped = models.SearchParams(idf=models.IdfCorpusParams(corpus=MUST_T1))

    async def found():
        answer = await client.query_points(
            COLLECTION, query=query, using="bm25", query_filter=MUST_T1, search_params=scoped
        )
        return [(hit.id, pytest.approx(hit.score)) for hit in answer.points]

    first = await found()
    assert first
    for _ in range(LOOKS_MIN + 1):
        assert await found() == first
    await upsert(client, *(point(number, tenant="t2") for number in range(100, 110)))
    assert await found() == first


async def test_query_batch_answers_like_single_queries(client: AsyncQdrantClient):
    """Each query of a batch gets the answer it would get alone."""
    await upsert(client, *(point(number) for number in range(6)))
    requests = [models.QueryRequest(query=[1.0, float(x), 0.0, 0.5], using="dense", limit=2) for x in (0, 3, 5)]
    batch = await client.query_batch_points(COLLECTION, requests)
    single = [await client.query_points(COLLECTION, query=r.query, using="dense", limit=2) for r in requests]
    assert [[hit.id for hit in answer.points] for answer in batch] == [[hit.id for hit in a.points] for a in single]


async def test_set_payload_by_ids_and_filter_merges_fields(client: AsyncQdrantClient):
    """Named fields change, the others stay, and other points stay as they are."""
    await upsert(client, point(1), point(2), point(3, tenant="t2"))
    await client.set_payload(COLLECTION, {"gen_to": 7}, points=[1], wait=True)
    await client.set_payload(COLLECTION, {"seen": True}, points=MUST_T1, wait=True)
    records = await client.retrieve(COLLECTION, [1, 2, 3], with_payload=["gen_to", "seen"])
    assert {record.id: record.payload for record in records} == {
        1: {"gen_to": 7, "seen": True},
        2: {"gen_to": 2**53 - 1, "seen": True},
        3: {"gen_to": 2**53 - 1},
    }


async def test_delete_by_ids_and_filter_removes_only_those(client: AsyncQdrantClient):
    """Deleting a missing id is no error."""
    await upsert(client, *(point(number, tenant="t2" if number > 2 else "t1") for number in range(5)))
    await client.delete(COLLECTION, [0, 99], wait=True)
    await client.delete(COLLECTION, models.FilterSelector(filter=models.Filter(must_not=MUST_T1.must)), wait=True)
    page, _ = await client.scroll(COLLECTION)
    assert [record.id for record in page] == [1, 2]


async def test_scroll_pages_cover_every_match_once(client: AsyncQdrantClient):
    """Following the page tokens visits every matching point exactly once."""
    await upsert(client, *(point(number, even=int(number % 2 == 0)) for number in range(25)))
    even = models.Filter(must=[models.FieldCondition(key="even", match=models.MatchValue(value=1))])
    seen, offset = [], None
    while True:
        page, offset = await client.scroll(COLLECTION, scroll_filter=even, limit=4, offset=offset)
        seen += [record.id for record in page]
        if offset is None:
            break
    assert seen == list(range(0, 25, 2))


async def test_count_snapshot_filter_sees_one_generation(client: AsyncQdrantClient):
    """`gen_from <= g < gen_to` picks the generation, with "never" at 2^53 - 1."""
    await upsert(client, point(1), point(2, gen_to=5), point(3, gen_from=5), point(4, gen_from=2**53 - 1))

    async def count(generation: int) -> int:
        visible = [
            models.FieldCondition(key="gen_from", range=models.Range(lte=generation)),
            models.FieldCondition(key="gen_to", range=models.Range(gt=generation)),
        ]
        return (await client.count(COLLECTION, count_filter=models.Filter(must=visible), exact=True)).count

    assert [await count(generation) for generation in (4, 5)] == [2, 2]


async def test_create_field_index_is_listed_and_idempotent(client: AsyncQdrantClient):
    """The tenant index of a cluster is accepted, twice."""
    tenant = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
    await upsert(client, point(1))
    for _ in range(2):
        await client.create_payload_index(COLLECTION, "tenant", tenant, wait=True)
    await client.create_payload_index(COLLECTION, "gen_from", models.PayloadSchemaType.INTEGER, wait=True)
    info = await client.get_collection(COLLECTION)
    assert {name: index.data_type.value for name, index in info.payload_schema.items()} == {
        "tenant": "keyword",
        "gen_from": "integer",
    }


async def test_upserts_in_parallel_are_all_stored(client: AsyncQdrantClient):
    """Writers that share flushes lose nothing."""
    await asyncio.gather(*(upsert(client, point(number)) for number in range(40)))
    assert (await client.count(COLLECTION)).count == 40
