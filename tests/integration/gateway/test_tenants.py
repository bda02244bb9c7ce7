"""Keys, tenants, readers and quotas over a socket, by the SDK and the command line."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from integration.gateway.conftest import KEY, OTHER_KEY, Stack
from typer.testing import CliRunner, Result

from gannet_client import (
    DocumentInput,
    GannetClient,
    NotFound,
    Overloaded,
    PermissionDenied,
    RetryPolicy,
    TenantLimits,
    Unauthenticated,
)
from gannet_client.cli.main import app

ONCE = RetryPolicy(attempts_max=1)
TEXT = b"# Falcons\n\nThe peregrine falcon dives at 300 km/h.\n\n# Gannets\n\nThe gannet dives for fish.\n"

Open = Callable[..., GannetClient]


@pytest.fixture
async def open_client(stack: Stack) -> AsyncIterator[Open]:
    """Opens clients of the SDK that are closed with the test."""
    opened: list[GannetClient] = []

    def connect(key: str = KEY, **options: Any) -> GannetClient:
        opened.append(GannetClient(stack.gateway.address, api_key=key, retry=ONCE, timeout_s=60, **options))
        return opened[-1]

    yield connect
    for client in opened:
        await client.close()


@pytest.fixture
async def birds(open_client: Open) -> AsyncIterator[str]:
    """A collection with one document for everyone and one for Ann and the engineers."""
    operator = open_client()
    await operator.create_collection("birds", chunk_size=100, chunk_overlap=0)
    documents = [
        DocumentInput(document_id="open.md", content=TEXT, mime_type="text/markdown"),
        DocumentInput(
            document_id="secret.md",
            content=TEXT.replace(b"300", b"320"),
            mime_type="text/markdown",
            readers=["user:ann", "group:eng"],
        ),
    ]
    acks = [ack async for ack in operator.upload("birds", documents)]
    assert {type(ack).__name__ for ack in acks} == {"DocumentIndexed"}
    yield "birds"
    await operator.delete_collection("birds")


async def found(client: GannetClient) -> set[str]:
    """The documents that a search finds."""
    result = await client.search("birds", "how fast does a falcon dive?")
    return {passage.document_id for passage in result.passages}


async def gannet(stack: Stack, *arguments: str, key: str = KEY) -> Result:
    """What the command line says."""
    command = ["--target", stack.gateway.address, "--api-key", key, *arguments]
    return await asyncio.to_thread(CliRunner().invoke, app, command)


async def test_key_does_what_its_scopes_say_until_it_is_revoked(open_client: Open, birds: str):
    """The missing scope is named; a gateway that never saw the key refuses it at once."""
    operator = open_client()
    made = await operator.tenants.create_key(["search", "collections.read"], label="reader")
    reader = open_client(made.secret)
    assert [collection.generation >= 1 async for collection in reader.list_collections()]
    with pytest.raises(PermissionDenied, match=r"'collections\.write'") as caught:
        await reader.create_collection("mine")
    assert caught.value.reason == "SCOPE_MISSING"
    unused = await operator.tenants.create_key(["search"])
    await operator.tenants.revoke_key(unused.key.name)
    with pytest.raises(Unauthenticated):
        await open_client(unused.secret).search("docs", "x")
    listed = {key.name: key async for key in operator.tenants.list_keys()}
    assert (listed[unused.key.name].revoke_time is not None, listed[made.key.name].label) == (True, "reader")


async def test_document_with_readers_is_found_by_them_alone(open_client: Open, birds: str):
    """By a key that is one of them, and by a backend's key that names its user a call; the operator's key keeps it and never finds it."""
    operator = open_client()
    scopes = ["search", "answer", "documents.read"]
    ann = await operator.tenants.create_key(scopes, user="ann")
    eng = await operator.tenants.create_key(scopes, groups=["eng", "ops"])
    backend = await operator.tenants.create_key([*scopes, "act_as"])
    everything, public = {"open.md", "secret.md"}, {"open.md"}
    assert await found(open_client(ann.secret)) == everything
    assert await found(open_client(eng.secret)) == everything
    assert await found(open_client(backend.secret)) == public
    assert await found(open_client(backend.secret, user="ann")) == everything
    assert await found(open_client(backend.secret, user="bob", groups=["eng"])) == everything
    assert await found(open_client(backend.secret, user="bob", groups=["engine"])) == public
    assert await found(operator) == public
    hidden = "tenants/-/collections/birds/documents/secret.md"
    assert (await operator.get_document(hidden)).readers == ("group:eng", "user:ann")
    with pytest.raises(NotFound):
        await open_client(backend.secret, user="bob").get_document(hidden)
    with pytest.raises(PermissionDenied, match="'act_as'"):
        await found(open_client(ann.secret, user="bob"))


async def test_answer_quotes_no_document_of_others(open_client: Open, birds: str):
    """Whoever may not find it is not told of it either."""
    operator = open_client()
    backend = await operator.tenants.create_key(["answer", "act_as"])
    for user, seen in (("ann", True), ("bob", False)):
        client = open_client(backend.secret, user=user)
        answer = await client.answer("birds", "How fast does the peregrine falcon dive?")
        assert any(passage.document_id == "secret.md" for passage in answer.passages) == seen
        assert ("320" in answer.text) <= seen


async def test_passages_of_a_document_are_listed_in_its_order(open_client: Open, birds: str, stack: Stack):
    """All of them, as the document has them; an earlier generation as it was then."""
    operator = open_client()
    name = "tenants/-/collections/birds/documents/secret.md"
    chunks = [chunk async for chunk in operator.list_chunks(name)]
    assert [chunk.ordinal for chunk in chunks] == list(range((await operator.get_document(name)).chunk_count))
    text = await operator.read_text(name)
    assert [text[chunk.start_byte : chunk.end_byte].decode() for chunk in chunks] == [chunk.text for chunk in chunks]
    with pytest.raises(NotFound):
        _ = [chunk async for chunk in operator.list_chunks(name, generation=1)]
    shown = await gannet(stack, "documents", "chunks", "secret.md", "--collection", "birds")
    assert shown.exit_code == 0
    assert chunks[0].text in shown.output


async def test_command_line_brings_an_earlier_revision_back_and_erases(open_client: Open, birds: str, stack: Stack):
    """Revisions, rollback, purge."""
    operator = open_client()
    document = DocumentInput(document_id="open.md", content=b"Nothing about birds.")
    assert [ack async for ack in operator.upload("birds", [document])]
    place = ("--collection", "birds")
    assert (await gannet(stack, "documents", "rollback", "open.md", "1", *place)).output == "revision 3\n"
    listed = await gannet(stack, "--json", "documents", "revisions", "open.md", *place)
    assert [json.loads(line)["revision"] for line in listed.output.splitlines()] == [3, 2, 1]
    assert await operator.read_text("tenants/-/collections/birds/documents/open.md") == TEXT
    assert (await gannet(stack, "documents", "purge", "open.md", "gone.md", *place)).output == "open.md\n"
    assert (await gannet(stack, "documents", "get", "open.md", *place)).exit_code == 1


async def test_command_line_makes_tenants_and_keys(stack: Stack, open_client: Open):
    """A key is written to stdout alone; tenants come and go."""
    assert (await gannet(stack, "tenants", "create", "fresh")).exit_code == 0
    limited = await gannet(stack, "--json", "tenants", "limit", "fresh", "--queries-per-s", "0.5", "--weight", "2")
    assert json.loads(limited.output)["limits"]["weight"] == 2.0
    made = await gannet(
        stack, "keys", "create", "--scope", "search", "--tenant", "fresh", "--label", "ci", "--days", "1"
    )
    secret = made.stdout.strip()
    with pytest.raises(NotFound):
        await open_client(secret).search("docs", "x")
    listed = await gannet(stack, "--json", "keys", "list", "--tenant", "fresh")
    (key,) = map(json.loads, listed.output.splitlines())
    assert (key["label"], key["scopes"]) == ("ci", ["search"])
    assert (await gannet(stack, "keys", "list", "--tenant", "fresh", key=OTHER_KEY)).exit_code == 1
    for command in (("keys", "revoke", key["name"]), ("tenants", "disable", "fresh"), ("tenants", "delete", "fresh")):
        assert (await gannet(stack, *command)).exit_code == 0
    assert (await gannet(stack, "tenants", "get", "fresh")).exit_code == 1
    assert "fresh" not in (await gannet(stack, "tenants", "list")).output


async def test_tenant_over_its_rate_is_told_when_to_come_again(open_client: Open):
    """Another tenant is not; the limit is the ledger's."""
    operator = open_client()
    await operator.tenants.create("slow", TenantLimits(queries_per_s=0.001))
    key = await operator.tenants.create_key(["search"], tenant_id="slow")
    slow = open_client(key.secret)
    with pytest.raises(NotFound):
        await slow.search("docs", "x")
    with pytest.raises(Overloaded) as caught:
        await slow.search("docs", "x")
    assert caught.value.reason == "QUOTA_EXCEEDED"
    assert 0 < (caught.value.retry_after_s or 0) <= 1000
    with pytest.raises(NotFound):
        await operator.search("nothing-there", "x")


async def test_upload_beyond_the_room_is_acknowledged_as_refused(open_client: Open):
    """Document by document."""
    operator = open_client()
    await operator.tenants.create("small", TenantLimits(documents_max=1))
    key = await operator.tenants.create_key(["documents.write", "collections.write"], tenant_id="small")
    small = open_client(key.secret)
    await small.create_collection("docs")
    documents = [DocumentInput(document_id=name, content=TEXT) for name in ("a", "b")]
    acks = {ack.document_id: ack async for ack in small.upload("docs", documents)}
    assert sorted(type(ack).__name__ for ack in acks.values()) == ["DocumentFailed", "DocumentIndexed"]
