"""Documents of two languages in one collection, over the socket."""

from collections.abc import AsyncIterator

import pytest
from integration.gateway.stack import Client, File, refusal

from gannet.gateway.v1 import search_pb2
from gannet_service import errors

MIXED = "tenants/-/collections/mixed"
WORDS = {"mode": search_pb2.SEARCH_MODE_SPARSE, "rerank": search_pb2.RerankOptions(enabled=False)}
CROATIAN = File(content=b"Sabor donosi zakone. Vlada provodi zakone.", start={"language": "hr"})


@pytest.fixture
async def mixed(client: Client) -> AsyncIterator[Client]:
    """An English collection with one document in Croatian."""
    await client.create("mixed")
    acks = await client.upload([("sabor.txt", CROATIAN), ("laws.txt", "The parliament passes laws.")], MIXED)
    assert [ack.revision for ack in acks] == [1, 1]
    yield client
    await client.delete_collection(MIXED)


async def found(client: Client, query: str, **options: object) -> list[str]:
    """Ids of the documents that a search by words finds."""
    reply = await client.search(query, MIXED, **WORDS, **options)
    return [passage.document.rpartition("/")[2] for passage in reply.passages]


async def test_documents_are_found_by_the_stems_of_their_language(mixed: Client):
    """Without a word about the query's language; a query in the other one's stems finds them no more."""
    assert list((await mixed.collection(MIXED)).languages) == ["en", "hr"]
    assert await found(mixed, "zakonima") == ["sabor.txt"]
    assert await found(mixed, "passing a law") == ["laws.txt"]
    assert await found(mixed, "zakonima", language="hr") == ["sabor.txt"]
    assert await found(mixed, "zakonima", language="en") == []
    document = await mixed.document(f"{MIXED}/documents/sabor.txt")
    assert document.language == "hr"


async def test_language_without_a_stemmer_fails_its_document_alone(mixed: Client):
    """By the field's name; the languages stay as they were."""
    (failed,) = await mixed.upload([("x.txt", File(content=b"x", start={"language": "xx"}))], MIXED)
    assert (failed.code, failed.message[:9]) == (3, "language:")
    assert list((await mixed.collection(MIXED)).languages) == ["en", "hr"]
    refused = await refusal(mixed.search("q", MIXED, language="xx"))
    assert (type(refused), refused.field) == (errors.InvalidInput, "options.language")
