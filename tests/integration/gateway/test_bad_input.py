"""Bad input over the socket: a clear status that names field and limit; the process stays up and nothing stored changes."""

import asyncio
from collections.abc import Callable

import pytest
from integration.gateway.conftest import KEY, Stack
from integration.gateway.stack import COLLECTION, TEXTS, Client, File, refusal, struct

from gannet.gateway.v1.documents_pb2 import DocumentContent, DocumentEnd, DocumentStart, UploadDocumentsRequest
from gannet.gateway.v1.search_pb2 import SearchOptions, SearchRequest
from gannet_service import errors

pytestmark = pytest.mark.usefixtures("unchanged")


@pytest.mark.parametrize(
    "query, problem",
    [
        ("", "query: empty"),
        (" \n", "query: empty"),
        ("x" * 10_000_000, "query: 10000000 bytes; the limit is 8192"),
    ],
    ids=["empty", "blank", "10 MB"],
)
async def test_query_out_of_limits_is_refused(query: str, problem: str, client: Client):
    """By search and by answer alike."""
    for call in (client.search(query), client.answer(query), client.whole_answer(query)):
        refused = await refusal(call)
        assert (type(refused), refused.field, refused.message) == (errors.InvalidInput, "query", problem)


async def test_query_that_is_not_utf8_is_refused(client: Client):
    """The field is named, not INTERNAL."""
    request = SearchRequest(parent=COLLECTION, query="????").SerializeToString().replace(b"????", b"\xff\xfe\xfd\xfc")
    refused = await refusal(client.search_bytes(request))
    assert (type(refused), refused.field, refused.message) == (errors.InvalidInput, "query", "query: not valid UTF-8")


async def test_request_that_is_no_message_is_refused(client: Client):
    """Bytes of something else."""
    refused = await refusal(client.search_bytes(b"\x0a\xff\xff"))
    assert (type(refused), refused.reason) == (errors.InvalidInput, "UNDECODABLE")


async def test_request_larger_than_the_server_reads_is_refused(client: Client):
    """The transport's own limit."""
    assert isinstance(await refusal(client.search("x" * (17 << 20))), errors.Overloaded)


@pytest.mark.parametrize("top_k", [0, 1001, 10**9])
async def test_top_k_out_of_limits_is_refused(top_k: int, client: Client):
    """The field and both limits are named; answers have a limit of their own."""
    refused = await refusal(client.search("generator", top_k=top_k))
    assert (type(refused), refused.field) == (errors.InvalidInput, "options.top_k")
    assert refused.message == f"options.top_k: {top_k}; the limits are 1 to 1000"
    refused = await refusal(client.answer("generator?", search=SearchOptions(top_k=top_k)))
    assert refused.message == f"search.top_k: {top_k}; the limits are 1 to 50"


async def test_unknown_collection_is_not_found(client: Client):
    """By every call that names one."""
    none = "tenants/-/collections/none"
    calls = (
        client.search("q", none),
        client.answer("q", none),
        client.collection(none),
        client.documents(parent=none),
        client.document(f"{none}/documents/a"),
        client.upload([("a", "text")], none),
        client.delete("a", parent=none),
        client.delete_collection(none),
    )
    for call in calls:
        assert isinstance(await refusal(call), errors.NotFound)


async def test_parent_of_another_form_is_refused(client: Client):
    """The form is in the message."""
    refused = await refusal(client.search("q", "docs"))
    assert (type(refused), refused.field) == (errors.InvalidInput, "parent")
    assert 'expected "tenants/{tenant}/collections/{collection}"' in refused.message


async def test_name_of_another_tenant_is_denied(client: Client):
    """Whether or not the other tenant has such a thing."""
    foreign = "tenants/second/collections/docs"
    for call in (
        client.search("q", foreign),
        client.answer("q", foreign),
        client.collection(foreign),
        client.collections(parent="tenants/second"),
        client.documents(parent=foreign),
        client.document(f"{foreign}/documents/a"),
        client.upload([("a", "text")], foreign),
        client.delete("a", parent=foreign),
        client.delete_collection(foreign),
    ):
        assert isinstance(await refusal(call), errors.PermissionDenied)


@pytest.mark.parametrize("key, reason", [("", "API_KEY_MISSING"), ("gnt_unknown_key_123", "API_KEY_UNKNOWN")])
async def test_call_without_a_known_key_is_unauthenticated(
    key: str, reason: str, stack: Stack, connect: Callable[[Stack, str], Client]
):
    """Every service, streams included."""
    stranger = connect(stack, key)
    for call in (stranger.search("q"), stranger.answer("q"), stranger.collections(), stranger.upload([("a", "b")])):
        refused = await refusal(call)
        assert (type(refused), refused.reason) == (errors.Unauthenticated, reason)
        assert KEY not in refused.message


@pytest.mark.parametrize("token", ["x", "AAAA", "not base64 ✓"])
async def test_page_token_of_nobody_is_refused(token: str, client: Client):
    """For both lists."""
    for call in (client.documents(page_token=token), client.collections(page_token=token)):
        refused = await refusal(call)
        assert (type(refused), refused.field) == (errors.InvalidInput, "page_token")


async def test_page_size_over_the_limit_is_refused(client: Client):
    """The limit is named."""
    refused = await refusal(client.documents(page_size=1001))
    assert (refused.field, refused.message) == ("page_size", "page_size: 1001; the limit is 1000")


@pytest.mark.parametrize(
    "file, field, problem",
    [
        (File(content=b" \n\t"), "content", "content: the document has no text"),
        (File(content=b""), "content", "content: the document has no text"),
        (File(content=b"\x89PNG\r\n\x1a\n\x00\x00"), "content", "content: a binary file (it holds NUL bytes)"),
        (File(content=b"caf\xe9"), "content", "content: not valid UTF-8 at byte 3"),
        (File(content=b"x" * ((1 << 20) + 1)), "content", "content: larger than document_bytes_max = 1048576 bytes"),
        (File(content=b"x", digest=b"\x00" * 32), "sha256", "sha256: not the digest of the content that arrived"),
        (File(content=b"x", start={"metadata": struct(n=float("nan"))}), "metadata.n", "metadata.n: must be a string"),
        (File(content=b"x", start={"mime_type": "image/png"}), "mime_type", "mime_type: 'image/png' is not one of"),
        (File(content=b"x", start={"title": "t" * 1025}), "title", "title: 1025 bytes; the limit is 1024"),
    ],
    ids=["blank", "empty", "binary", "latin-1", "too large", "digest", "NaN", "type", "title"],
)
async def test_document_that_cannot_be_stored_is_refused_alone(file: File, field: str, problem: str, client: Client):
    """A new one leaves nothing, an existing one stays, and the documents beside it are stored."""
    for name in ("bad.txt", "yield.md"):
        (first, bad, last) = await client.upload(
            [("zagreb.txt", TEXTS["zagreb.txt"]), (name, file), ("with.md", TEXTS["with.md"])]
        )
        assert first.unchanged
        assert last.unchanged
        refused = errors.from_status(bad)
        assert (type(refused), refused.field) == (errors.InvalidInput, field)
        assert refused.message.startswith(problem)


@pytest.mark.parametrize("document_id", ["", "a" * 513, "a\nb", "/a", "a/chunks/1"])
async def test_document_with_a_bad_id_is_refused(document_id: str, client: Client):
    """The limits of ids."""
    (bad,) = await client.upload([(document_id, "text")])
    assert errors.from_status(bad).field == "document_id"


async def test_document_id_twice_in_a_stream_is_refused(client: Client):
    """The second one; the first is taken, and whatever comes after it as well."""
    text = TEXTS["with.md"]
    first, second, third = await client.upload(
        [("with.md", text), ("with.md", "other"), ("yield.md", TEXTS["yield.md"])]
    )
    assert first.unchanged
    assert third.unchanged
    refused = errors.from_status(second)
    assert (type(refused), refused.field) == (errors.AlreadyExists, "document_id")


async def test_document_id_that_is_not_utf8_is_refused(client: Client):
    """Also in a stream, where the field's path is named."""
    start = UploadDocumentsRequest(start=DocumentStart(document_id="????")).SerializeToString()
    header = b"\x0a" + bytes([len(COLLECTION) + 2]) + b"\x0a" + bytes([len(COLLECTION)]) + COLLECTION.encode()
    method = client.blocking_channel.stream_stream("/gannet.gateway.v1.DocumentService/UploadDocuments")
    stream = method(iter([header, start.replace(b"????", b"\xff\xff\xff\xff")]), metadata=client.metadata)
    refused = await refusal(asyncio.to_thread(list, stream))
    assert (type(refused), refused.field) == (errors.InvalidInput, "start.document_id")


@pytest.mark.parametrize(
    "messages, field",
    [
        ([UploadDocumentsRequest(content=DocumentContent(data=b"x"))], "content"),
        ([UploadDocumentsRequest(end=DocumentEnd())], "end"),
        ([UploadDocumentsRequest(start=DocumentStart(document_id="a"))], "end"),
        ([UploadDocumentsRequest()], "message"),
    ],
)
async def test_upload_in_a_broken_order_is_refused(messages: list[UploadDocumentsRequest], field: str, client: Client):
    """The stream ends, and the message that should not be there is named."""
    refused = await refusal(client.send(messages))
    assert (type(refused), refused.field) == (errors.InvalidInput, field)


@pytest.mark.parametrize(
    "collection_id, settings, field",
    [
        ("", {}, "collection_id"),
        ("Docs", {}, "collection_id"),
        ("a" * 64, {}, "collection_id"),
        ("fine", {"chunk_size": 99}, "collection.chunk_size"),
        ("fine", {"chunk_size": 20_001}, "collection.chunk_size"),
        ("fine", {"chunk_size": 200, "chunk_overlap": 100}, "collection.chunk_overlap"),
        ("fine", {"language": "xx"}, "collection.language"),
    ],
)
async def test_collection_with_bad_settings_is_refused(
    collection_id: str, settings: dict[str, object], field: str, client: Client
):
    """Each setting names itself; no collection is made."""
    before = await client.collections()
    refused = await refusal(client.create(collection_id, **settings))
    assert (type(refused), refused.field) == (errors.InvalidInput, field)
    assert await client.collections() == before


async def test_collection_that_exists_is_refused(client: Client):
    """And the one that exists is unchanged."""
    refused = await refusal(client.create("docs", chunk_size=500))
    assert (type(refused), refused.field) == (errors.AlreadyExists, "collection_id")


@pytest.mark.parametrize("start, end", [(10_000, 0), (5, 4), (0, 10_000)])
async def test_text_range_outside_of_the_document_is_refused(start: int, end: int, client: Client):
    """The document's length is named."""
    refused = await refusal(client.document("with.md", start, end))
    assert (type(refused), refused.field) == (errors.InvalidInput, "text")
    assert f"the document's {len(TEXTS['with.md'].encode())} bytes" in refused.message
