"""What the SDK and the command line do with a collection's settings, batches of searches and languages."""

import json

import pytest
from fakes.gateway import State
from unit.client.test_cli import Cli, cli, filled  # noqa: F401 - fixtures

from gannet_client import (
    CacheTier,
    CollectionSettings,
    Conflict,
    DocumentInput,
    GannetClient,
    InvalidInput,
    NotFound,
    SearchOptions,
    SearchResult,
)

TEXT = b"Gannets dive.\n\nPuffins dig."


@pytest.fixture
async def birds(client: GannetClient) -> GannetClient:
    """A client whose gateway has one document."""
    await client.create_collection("birds")
    assert len([ack async for ack in client.upload("birds", [DocumentInput(document_id="a", content=TEXT)])]) == 1
    return client


async def test_update_collection_changes_what_is_given_and_resets_what_is_named(client: GannetClient):
    """What is neither stays as it was."""
    made = await client.create_collection("c", rerank=False, cache_results=True, cache_ttl_s=1.5)
    assert (made.rerank, made.cache_results, made.cache_ttl_s) == (False, True, 1.5)
    changed = await client.update_collection("c", CollectionSettings(rerank=True), reset=["cache_ttl_s"])
    assert (changed.rerank, changed.cache_results, changed.cache_ttl_s) == (True, True, None)
    changed = await client.update_collection("c", CollectionSettings(cache_results=False, cache_ttl_s=60))
    assert (changed.rerank, changed.cache_results, changed.cache_ttl_s) == (True, False, 60.0)


async def test_update_collection_of_another_state_is_a_conflict(client: GannetClient):
    """With the etag of the state that was read; a setting that there is not is refused by name."""
    await client.create_collection("c")
    seen = await client.update_collection("c", CollectionSettings(rerank=True))
    await client.update_collection("c", CollectionSettings(rerank=False), etag=seen.etag)
    with pytest.raises(Conflict):
        await client.update_collection("c", CollectionSettings(rerank=True), etag=seen.etag)
    with pytest.raises(InvalidInput):
        await client.update_collection("c", CollectionSettings(), reset=["chunk_size"])


async def test_batch_search_has_an_outcome_for_each_query(birds: GannetClient, state: State):
    """In order, a result or an error; what all share is asked once."""
    found = await birds.batch_search(
        "birds", ["puffins", " ", "gannets"], SearchOptions(top_k=1), generation=3, max_staleness_s=1.5
    )
    puffins, empty, gannets = found
    assert isinstance(puffins, SearchResult)
    assert isinstance(gannets, SearchResult)
    assert isinstance(empty, InvalidInput)
    assert [one.passages[0].text for one in (puffins, gannets)] == ["Puffins dig.", "Gannets dive."]
    (asked,) = state.searches
    assert (list(asked.queries), asked.options.top_k, asked.generation) == (["puffins", " ", "gannets"], 1, 3)
    assert (asked.max_staleness.seconds, asked.max_staleness.nanos) == (1, 500_000_000)


async def test_batch_search_of_no_collection_fails_as_a_whole(birds: GannetClient):
    """What is wrong with all of them is the call's error."""
    with pytest.raises(NotFound):
        await birds.batch_search("none", ["puffins"])


async def test_search_says_whether_its_result_was_cached(birds: GannetClient, state: State):
    """And sends no max_staleness that nobody gave."""
    first, second = await birds.search("birds", "puffins"), await birds.search("birds", "puffins", max_staleness_s=2)
    assert (first.cache_hits.result, second.cache_hits.result) == (CacheTier.UNASKED, CacheTier.LOCAL)
    assert [one.HasField("max_staleness") for one in state.searches] == [False, True]


async def test_document_language_reaches_the_server(client: GannetClient):
    """And comes back in the document's record."""
    await client.create_collection("c")
    documents = [DocumentInput(document_id="a", content=b"Sabor.", language="hr")]
    (ack,) = [one async for one in client.upload("c", documents)]
    assert (await client.get_document(ack.name)).language == "hr"


# ---- the command line ---------------------------------------------------------------------------------------------


async def test_collections_update_changes_and_shows(cli: Cli):  # noqa: F811 - the fixture
    """The settings that are named; a mistake is told."""
    assert (await cli("collections", "create", "c", "--cache-ttl", "30")).exit_code == 0
    changed = await cli("--json", "collections", "update", "c", "--no-rerank", "--no-cache-results")
    shown = json.loads(changed.stdout)
    assert (shown["rerank"], shown["cache_results"], shown["cache_ttl_s"]) == (False, False, 30.0)
    table = await cli("collections", "update", "c", "--reset", "rerank", "--reset", "cache_ttl")
    assert table.exit_code == 0
    assert "30 s" not in table.stdout
    assert (await cli("collections", "update", "c")).exit_code == 0
    assert (await cli("collections", "update", "c", "--reset", "language")).exit_code == 2


async def test_search_of_a_file_of_queries_shows_each(filled: Cli, state: State, tmp_path):  # noqa: F811 - the fixture
    """In calls of at most 32, blank lines left out."""
    file = tmp_path / "queries.txt"
    file.write_text("gannets\n\npuffins\n" + "fish\n" * 40)
    result = await filled("--json", "search", "--queries", str(file), "-c", "docs", "--max-staleness", "5")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["query"] for line in lines] == ["gannets", "puffins", *["fish"] * 40]
    assert [len(line["result"]["passages"]) for line in lines[:2]] == [1, 1]
    assert [len(one.queries) for one in state.searches] == [32, 10]
    table = await filled("search", "--queries", str(file), "-c", "docs")
    assert (table.exit_code, "puffins" in table.stdout) == (0, True)


@pytest.mark.parametrize("arguments", [["--queries", "no-such-file"], ["q", "--queries", "x"]], ids=str)
async def test_search_of_no_queries_or_of_two_kinds_is_a_mistake(filled: Cli, arguments: list[str]):  # noqa: F811 - the fixture
    """Exit code 2."""
    assert (await filled("search", *arguments, "-c", "docs")).exit_code == 2


async def test_search_says_that_it_was_cached_and_how_it_searched(filled: Cli, state: State):  # noqa: F811 - the fixture
    """On the line below the table; options reach the request."""
    for _ in range(2):
        result = await filled("search", "gannets", "-c", "docs", "--language", "hr", "--multi-query", "2")
    assert "cached" in result.stderr
    options = state.searches[-1].options
    assert (options.language, options.multi_query.queries) == ("hr", 2)


async def test_ingest_with_a_language_makes_the_collection_and_its_documents_so(cli: Cli, state: State, tmp_path):  # noqa: F811 - the fixture
    """A collection that is there keeps its own."""
    (tmp_path / "a.txt").write_text("Sabor.")
    await cli("collections", "create", "old")
    for name in ("new", "old"):
        assert (await cli("ingest", str(tmp_path), "-c", name, "--language", "hr")).exit_code == 0
    assert {name: stored.message.language for name, stored in state.collections.items()} == {"new": "hr", "old": ""}
    assert state.collections["old"].documents["a.txt"].language == "hr"
