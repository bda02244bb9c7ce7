"""Documents and collections through a real gateway, embedder and vector store."""

import hashlib
from typing import Any

import pytest
from fakes.files import pdf, word
from integration.gateway.stack import TEXTS, Client, File, refusal, struct

from gannet_client.files import MIME_TYPES
from gannet_service import errors


@pytest.fixture
async def scratch(client: Client, request: pytest.FixtureRequest) -> Any:
    """A collection of the test's own, small chunks, gone afterwards."""
    collection_id = f"t{hashlib.sha256(request.node.name.encode()).hexdigest()[:16]}"
    await client.create(collection_id, chunk_size=100, chunk_overlap=0)
    name = f"tenants/-/collections/{collection_id}"
    yield name
    if not isinstance(await _refused(client.collection(name)), errors.NotFound):
        await client.delete_collection(name)


async def _refused(call: Any) -> BaseException | None:
    try:
        return await refusal(call)
    except AssertionError:
        return None


async def test_document_uploaded_is_returned_as_it_was_given(client: Client, scratch: str):
    """Record, metadata and every range of the text."""
    text = TEXTS["zagreb.txt"] * 50
    start = {"title": "Grad", "metadata": struct(tags=["a", "č"], year=2026.0, ok=True)}
    (ack,) = await client.upload([("dir/grad č.txt", File(content=text.encode(), start=start))], scratch)
    assert (ack.revision, ack.unchanged) == (1, False)
    assert ack.name == scratch.replace("/-/", "/first/") + "/documents/dir/grad č.txt"
    found = await client.document(ack.name, 0)
    assert (found.title, found.mime_type, found.revision, found.chunk_count) == (
        "Grad",
        "text/plain",
        1,
        ack.chunk_count,
    )
    assert found.metadata == start["metadata"]
    assert found.text == text.encode()
    assert found.content_sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert found.text_bytes == len(text.encode())
    for begin, end in ((0, 10), (7, 8), (100, 0), (len(text.encode()), 0)):
        part = await client.document(ack.name, begin, end)
        assert part.text == text.encode()[begin : end or None]
        assert part.text_start_byte == begin
    assert (await client.document(ack.name)).text == b""


@pytest.mark.parametrize(
    "name, content, text",
    [
        ("a.pdf", pdf([["Gannets dive deep."], ["They hunt fish."]]), "Gannets dive deep.\n\nThey hunt fish.\n"),
        ("a.docx", word(("Heading 1", "Gannets"), ("", "They dive.")), "# Gannets\n\nThey dive.\n\n"),
        ("a.jsonl", b'{"bird": "gannet", "depth": 20}\n', "bird: gannet\ndepth: 20\n\n"),
        ("a.csv", b"bird;depth\ngannet;20\n", "bird: gannet\ndepth: 20\n\n"),
    ],
)
async def test_document_of_another_format_is_its_text(
    client: Client, scratch: str, name: str, content: bytes, text: str
):
    """What GetDocument returns is what passages' offsets count in."""
    start = {"mime_type": MIME_TYPES[f".{name.partition('.')[2]}"]}
    (ack,) = await client.upload([(name, File(content=content, start=start))], scratch)
    found = await client.document(ack.name, 0)
    assert (found.text.decode(), found.mime_type) == (text, start["mime_type"])
    assert found.content_sha256 == hashlib.sha256(content).hexdigest()
    (passage, *_) = (await client.search("gannet", scratch, top_k=1)).passages
    assert text.encode()[passage.start_byte : passage.end_byte].decode() == passage.text


async def test_document_that_cannot_be_read_leaves_the_stream_and_the_others(client: Client, scratch: str):
    """Each with its own error, field and reason; what comes with them is stored."""
    files = [
        ("scan.pdf", File(content=pdf([[]]), start={"mime_type": "application/pdf"})),
        ("broken.docx", File(content=b"PK", start={"mime_type": MIME_TYPES[".docx"]})),
        ("good.pdf", File(content=pdf([["Good."]]), start={"mime_type": "application/pdf"})),
    ]
    scan, broken, good = await client.upload(files, scratch)
    assert scan.message.startswith("content: the PDF has no text")
    assert broken.message.startswith("content: not a .docx file")
    assert good.revision == 1


async def test_document_uploaded_again_is_unchanged_or_replaced(client: Client, scratch: str):
    """The same content does nothing; another one makes a revision and leaves no passage of the old one."""
    old = "The aardvark digs burrows. " * 20
    (first,) = await client.upload([("a.txt", old)], scratch)
    (again,) = await client.upload([("a.txt", old)], scratch)
    assert (again.revision, again.unchanged, again.chunk_count) == (1, True, first.chunk_count)
    (second,) = await client.upload([("a.txt", "Zebras graze.")], scratch)
    assert (second.revision, second.unchanged, second.chunk_count) == (2, False, 1)
    for mode in (1, 2, 3):
        found = await client.search("aardvark burrows zebras", scratch, mode=mode)
        assert {(passage.revision, passage.text) for passage in found.passages} == {(2, "Zebras graze.")}
    record = await client.document(second.name, 0)
    assert (record.text, record.revision) == (b"Zebras graze.", 2)


async def test_document_create_only_that_exists_is_refused(client: Client, scratch: str):
    """Also with the same content; the document stays."""
    file = File(content=b"One text.", start={"create_only": True})
    (first,) = await client.upload([("a.txt", file)], scratch)
    (second,) = await client.upload([("a.txt", file)], scratch)
    assert first.revision == 1
    assert isinstance(errors.from_status(second), errors.AlreadyExists)


async def test_document_deleted_is_gone_everywhere(client: Client, scratch: str):
    """From the record, the list, the searches and the count; with another etag it stays."""
    (kept, gone) = await client.upload([("kept.txt", "Owls hunt mice."), ("gone.txt", "Owls hunt voles.")], scratch)
    etag = (await client.document(gone.name)).etag
    refused = await refusal(client.delete("gone.txt", "1-other", scratch))
    assert (type(refused), refused.reason) == (errors.Conflict, "ETAG_MISMATCH")
    assert (await client.document(gone.name)).etag == etag
    await client.delete("gone.txt", etag, scratch)
    assert isinstance(await refusal(client.document(gone.name)), errors.NotFound)
    assert isinstance(await refusal(client.delete("gone.txt", "", scratch)), errors.NotFound)
    assert [document.name for document in (await client.documents(parent=scratch)).documents] == [kept.name]
    found = await client.search("owls hunt voles", scratch)
    assert {passage.document for passage in found.passages} == {kept.name}
    assert (await client.collection(scratch)).document_count == 1


async def test_documents_listed_in_pages_are_each_listed_once(client: Client, scratch: str):
    """In the order of their ids, whatever the page size."""
    ids = sorted(f"d{place}.txt" for place in range(7))
    await client.upload([(each, f"Text number {each}.") for each in ids], scratch)
    listed, token = [], ""
    while True:
        page = await client.documents(parent=scratch, page_size=3, page_token=token)
        listed += [document.name.rpartition("/")[2] for document in page.documents]
        token = page.next_page_token
        if not token:
            break
        other = await refusal(client.collections(page_token=token))
        assert other.field == "page_token"
    assert listed == ids


async def test_collection_settings_are_kept(client: Client, scratch: str):
    """As given, defaults filled in, the model named."""
    found = await client.collection(scratch)
    assert (found.chunk_size, found.chunk_overlap, found.language) == (100, 0, "en")
    assert not found.HasField("rerank")
    assert found.embedding_model
    assert len(found.embedding_model_digest) == 64
    assert (found.document_count, found.generation) == (0, 1)
    listed = await client.collections()
    assert found in listed.collections


async def test_collection_deleted_takes_points_and_texts_with_it(client: Client, scratch: str):
    """A new collection of the same name is empty, in the ledger as in the vector store."""
    (ack,) = await client.upload([("a.txt", "Pelicans fish.")], scratch)
    await client.delete_collection(scratch)
    for call in (client.collection(scratch), client.search("pelicans", scratch), client.document(ack.name)):
        assert isinstance(await refusal(call), errors.NotFound)
    await client.create(scratch.rpartition("/")[2])
    assert (await client.collection(scratch)).document_count == 0
    for mode in (1, 2, 3):
        assert list((await client.search("pelicans fish", scratch, mode=mode)).passages) == []


async def test_html_is_searched_by_its_visible_text(client: Client, scratch: str):
    """Offsets count in the text that GetDocument returns."""
    html = b"<h1>Birds</h1><script>var x</script><p>Gannets <b>dive</b> for fish.</p>"
    (ack,) = await client.upload([("b.html", File(content=html, start={"mime_type": "text/html"}))], scratch)
    record = await client.document(ack.name, 0)
    assert record.text == b"# Birds\n\nGannets dive for fish.\n"
    (passage,) = (await client.search("gannets", scratch)).passages
    assert record.text[passage.start_byte : passage.end_byte].decode() == passage.text
    assert (passage.title, record.content_sha256) == ("Birds", hashlib.sha256(html).hexdigest())


async def test_document_rolled_back_is_found_by_its_old_text(client: Client, scratch: str):
    """As a new revision; the list of revisions tells from which generation to which each was seen."""
    (first,) = await client.upload([("a.txt", "Aardvarks dig burrows.")], scratch)
    (second,) = await client.upload([("a.txt", "Zebras graze.")], scratch)
    third = await client.rollback(first.name, 1)
    assert (third.revision, third.generation) == (3, second.generation + 1)
    for mode in (1, 2, 3):
        found = await client.search("aardvarks zebras", scratch, mode=mode)
        assert {(passage.revision, passage.text) for passage in found.passages} == {(3, "Aardvarks dig burrows.")}
        assert found.generation == third.generation
    assert (await client.document(first.name, 0)).text == b"Aardvarks dig burrows."
    page = await client.revisions(first.name, page_size=2)
    rest = await client.revisions(first.name, page_size=2, page_token=page.next_page_token)
    assert [(each.revision, each.generation, each.end_generation) for each in (*page.revisions, *rest.revisions)] == [
        (3, third.generation, 0),
        (2, second.generation, third.generation),
        (1, first.generation, second.generation),
    ]
    for name, revision, etag, error in (
        (first.name, 9, "", errors.NotFound),
        (first.name, 0, "", errors.InvalidInput),
        (first.name, 1, third.etag[::-1], errors.Conflict),
        (f"{first.name}x", 1, "", errors.NotFound),
    ):
        assert type(await refusal(client.rollback(name, revision, etag))) is error
    assert isinstance(await refusal(client.revisions(f"{first.name}x")), errors.NotFound)


async def test_documents_purged_leave_nothing(client: Client, scratch: str):
    """No revision, no text, no passage; what was not there is not named; their ids begin again."""
    kept, gone = await client.upload([("kept.txt", "Owls hunt mice."), ("gone.txt", "Owls hunt voles.")], scratch)
    await client.upload([("gone.txt", "Owls hunt shrews.")], scratch)
    assert await client.purge(["gone.txt", "none.txt", "gone.txt"], scratch) == ["gone.txt"]
    for call in (client.document(gone.name), client.revisions(gone.name), client.rollback(gone.name, 1)):
        assert isinstance(await refusal(call), errors.NotFound)
    for mode in (1, 2, 3):
        found = await client.search("owls hunt", scratch, mode=mode)
        assert {passage.document for passage in found.passages} == {kept.name}
    for wrong in ([], [str(number) for number in range(101)], ["/"]):
        refused = await refusal(client.purge(wrong, scratch))
        assert (type(refused), refused.field) == (errors.InvalidInput, "document_ids")
    (again,) = await client.upload([("gone.txt", "Owls sleep.")], scratch)
    assert again.revision == 1
