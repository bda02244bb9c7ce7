"""Search options over real sockets, the embedded store and the real models."""

from collections.abc import Callable
from typing import Any

import pytest
from integration.gateway.conftest import KEY, Stack
from integration.gateway.stack import Client, File, refusal, struct

from gannet.gateway.v1 import search_pb2, search_pb2_grpc
from gannet_service.errors import InvalidInput, NotFound, from_status

PARENT = "tenants/-/collections/options"
METADATA: dict[str, dict[str, Any]] = {
    "coffee.txt": {"year": 2023, "draft": True, "tags": ["drink", "hot"], "published": "2023-04-01"},
    "tea.txt": {"year": 2024, "draft": False, "tags": ["drink"], "published": "2024-04-01T08:00:00Z"},
    "bread.txt": {"year": 2025, "tags": ["food"]},
}
SENTENCES = {
    "coffee.txt": "Coffee is brewed from roasted beans. Roasted coffee smells of chocolate and nuts. ",
    "tea.txt": "Tea is brewed from dried leaves. Green tea wants water below the boil. ",
    "bread.txt": "Bread is baked from flour and water. Rye bread rises slowly in the oven. ",
}


def content(text: str) -> bytes:
    """Six times the text, no two alike: equal passages would tie in every stage."""
    parts = ("first", "second shorter", "third and last but three", "fourth", "fifth by weight", "sixth of them all")
    return "".join(f"{text}So says the {part} part. " for part in parts).encode()


@pytest.fixture
async def options(stack: Stack, connect: Callable[[Stack, str], Client]) -> Client:
    """A collection of three documents of several passages each, without reranking."""
    client = connect(stack, KEY)
    if not any(one.name.endswith("/options") for one in (await client.collections()).collections):
        await client.create("options", chunk_size=200, chunk_overlap=0, rerank=False)
        files = [
            (name, File(content=content(text), start={"metadata": struct(**METADATA[name])}))
            for name, text in SENTENCES.items()
        ]
        assert all(ack.revision == 1 for ack in await client.upload(files, PARENT))
    return client


def documents(reply: search_pb2.SearchResponse) -> set[str]:
    """Which documents the passages are of."""
    return {passage.document.rpartition("/")[2] for passage in reply.passages}


@pytest.mark.parametrize(
    "text, expected",
    [
        ("metadata.year >= 2024", {"tea.txt", "bread.txt"}),
        ("metadata.draft = true", {"coffee.txt"}),
        ("metadata.draft = false", {"tea.txt"}),
        ("NOT metadata.draft:*", {"bread.txt"}),
        ('metadata.tags:"drink" AND metadata.year != 2023', {"tea.txt"}),
        ('metadata.published > "2023-12-31"', {"tea.txt"}),
        ('document = "bread.txt" OR metadata.draft = true', {"bread.txt", "coffee.txt"}),
        ("metadata.year > 3000", set()),
    ],
)
@pytest.mark.parametrize("mode", ["SEARCH_MODE_DENSE", "SEARCH_MODE_HYBRID"])
async def test_search_with_a_filter_finds_inside_of_it(options: Client, text: str, expected: set[str], mode: str):
    """By keyword, number, boolean, list, date, presence and id."""
    reply = await options.search("What is brewed or baked?", PARENT, filter=text, mode=mode, top_k=50)
    assert documents(reply) == expected


async def test_search_with_a_wrong_filter_names_the_place(options: Client):
    """INVALID_ARGUMENT with the field."""
    refused = await refusal(options.search("tea", PARENT, filter="metadata.year ="))
    assert isinstance(refused, InvalidInput)
    assert (
        refused.message
        == "options.filter: at character 16, the end: expected a string in quotes, a number, true or false"
    )


def without_explanation(reply: search_pb2.SearchResponse) -> list[tuple[str, float]]:
    """Order and final scores."""
    return [(passage.name, round(passage.scores.final, 5)) for passage in reply.passages]


async def test_search_explained_is_the_same_search_with_reasons(options: Client):
    """The gateway's own fusion agrees with the store's, and each passage says where each stage had it."""
    plain = await options.search("brewed coffee", PARENT, top_k=8)
    explained = await options.search("brewed coffee", PARENT, top_k=8, explain=True)
    assert without_explanation(plain) == without_explanation(explained)
    assert not any(passage.scores.HasField("dense_rank") for passage in plain.passages)
    for passage in explained.passages:
        scores = passage.scores
        assert scores.HasField("dense_rank") or scores.HasField("sparse_rank")
        ranks = [getattr(scores, name) for name in ("dense_rank", "sparse_rank") if scores.HasField(name)]
        assert scores.fused == pytest.approx(sum(1 / (rank + 59) for rank in ranks), rel=1e-5)


async def test_search_exact_scores_from_the_stored_vectors(options: Client):
    """The embedded store is exact already: the same order and scores."""
    plain = await options.search("brewed coffee", PARENT, top_k=5, mode="SEARCH_MODE_DENSE")
    exact = await options.search("brewed coffee", PARENT, top_k=5, mode="SEARCH_MODE_DENSE", exact=True)
    assert [one.name for one in plain.passages] == [one.name for one in exact.passages]
    assert [one.scores.dense for one in exact.passages] == pytest.approx(
        [one.scores.dense for one in plain.passages], abs=1e-5
    )


async def test_search_by_relative_score_is_between_nothing_and_everything(options: Client):
    """0..1, falling."""
    fusion = {"method": "FUSION_METHOD_RELATIVE_SCORE"}
    finals = [one.scores.final for one in (await options.search("brewed coffee", PARENT, fusion=fusion)).passages]
    assert finals == sorted(finals, reverse=True)
    assert (min(finals) >= 0, max(finals) <= 1 + 1e-6) == (True, True)


async def test_search_with_a_least_similarity_leaves_out_what_is_unlike(options: Client):
    """Nothing in dense mode below the threshold."""
    everything = await options.search("brewed coffee", PARENT, mode="SEARCH_MODE_DENSE", top_k=50)
    least = everything.passages[2].scores.dense - 1e-4
    some = await options.search("brewed coffee", PARENT, mode="SEARCH_MODE_DENSE", top_k=50, dense_score_min=least)
    assert 0 < len(some.passages) < len(everything.passages)
    assert all(one.scores.dense >= least for one in some.passages)


async def test_search_grouped_diverse_and_with_neighbours(options: Client):
    """One passage of each document, each with the passages around it, which are its document's own text."""
    reply = await options.search(
        "brewed coffee", PARENT, top_k=3, max_per_document=1, diversity={"balance": 0.5}, neighbours=1
    )
    assert len(reply.passages) == len(documents(reply)) == 3
    for passage in reply.passages:
        ordinal = int(passage.name.rpartition("/")[2])
        around = [int(one.name.rpartition("/")[2]) for one in passage.neighbours]
        assert around
        assert set(around) <= {ordinal - 1, ordinal + 1}
        assert {one.document for one in passage.neighbours} == {passage.document}


async def test_search_with_feedback_still_finds(options: Client):
    """Twice as much work for a list that begins with the same document."""
    reply = await options.search("coffee", PARENT, top_k=3, feedback={"passages": 2})
    assert reply.passages[0].document.endswith("coffee.txt")


async def test_search_page_by_page_is_the_whole_list(options: Client):
    """Joined pages equal one long list; a token of another query, or of a generation to come, is refused."""
    stub = search_pb2_grpc.SearchServiceStub(options.channel)

    async def ask(request: search_pb2.SearchRequest) -> search_pb2.SearchResponse:
        return await stub.Search(request, metadata=options.metadata, timeout=60)

    wanted = search_pb2.SearchOptions(top_k=3)
    request = search_pb2.SearchRequest(parent=PARENT, query="brewed", options=wanted, paging_depth=8)
    names: list[str] = []
    while True:
        reply = await ask(request)
        names += [passage.name for passage in reply.passages]
        if not reply.next_page_token:
            break
        request.page_token = reply.next_page_token
        other = search_pb2.SearchRequest()
        other.CopyFrom(request)
        other.query = "baked"
        assert (await refusal(ask(other))).field == "page_token"
    whole = await options.search("brewed", PARENT, top_k=8)
    assert names == [passage.name for passage in whole.passages]
    future = search_pb2.SearchRequest(parent=PARENT, query="brewed", generation=10**6)
    assert (await refusal(ask(future))).field == "generation"


async def test_batch_search_is_many_searches(options: Client):
    """Each query's passages are those of a search of its own; a bad one is refused by itself, in its place."""
    wanted = search_pb2.SearchOptions(top_k=4, filter='metadata.tags:"drink"')
    queries = ["brewed coffee", " ", "green tea", "roasted beans"]
    reply = await batch(options, queries=queries, options=wanted)
    assert [one.WhichOneof("outcome") for one in reply.results] == ["response", "error", "response", "response"]
    assert from_status(reply.results[1].error).field == "queries[1]"
    for query, result in zip(queries, reply.results, strict=True):
        if result.HasField("response"):
            single = await options.search(query, PARENT, top_k=4, filter='metadata.tags:"drink"')
            assert without_explanation(single) == without_explanation(result.response)
            assert single.generation == result.response.generation
    again = await batch(options, queries=queries, options=wanted)
    assert again.results[0].response.passages == reply.results[0].response.passages
    assert again.results[0].response.cache_hits.result == search_pb2.CACHE_TIER_LOCAL
    assert (reply.embed_us > 0, again.embed_us) == (True, 0)


async def test_batch_search_that_is_wrong_for_all_is_refused(options: Client, other: Client):
    """As a call: its limits, its options, its generation, and a collection that is another tenant's."""
    wrong = search_pb2.SearchOptions(filter="metadata.year =")
    assert (await refusal(batch(options))).field == "queries"
    assert (await refusal(batch(options, queries=["tea"] * 33))).field == "queries"
    assert (await refusal(batch(options, queries=["tea"], options=wrong))).field == "options.filter"
    assert (await refusal(batch(options, queries=["tea"], generation=10**6))).field == "generation"
    assert isinstance(await refusal(batch(other, queries=["tea"])), NotFound)


async def batch(client: Client, **fields: Any) -> search_pb2.BatchSearchResponse:
    """BatchSearch."""
    request = search_pb2.BatchSearchRequest(parent=PARENT, **fields)
    stub = search_pb2_grpc.SearchServiceStub(client.channel)
    return await stub.BatchSearch(request, metadata=client.metadata, timeout=60)
