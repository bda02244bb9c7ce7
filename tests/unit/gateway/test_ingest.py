"""One document through the ingester, over a real ledger, journal and blobs."""

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from unit.gateway.fakes import COLLECTION, Failing, FakeEmbedder, FakeIndex
from unit.gateway.ingestion import NAME, RECORD, Ingestion, MakeIngestion, State, state_of, upload

from gannet_gateway.clients import EmbeddingModel
from gannet_gateway.ledger.journal import Journal
from gannet_gateway.ledger.ledger import Ledger
from gannet_gateway.ledger.records import Purpose
from gannet_service.errors import (
    AlreadyExists,
    Conflict,
    DeadlineTooShort,
    DependencyUnavailable,
    InvalidInput,
    NotFound,
)

# Every step of a write up to the intent, in order: the store and its method.
STEPS = [
    ("journal", "claim"),
    ("blobs", "put"),
    ("embedder", "passages"),
    ("index", "upsert"),
    ("journal", "begin_publish"),
]


async def test_index_of_a_new_document_stores_it_everywhere(ingestion: Ingestion, state: State, ledger: Ledger):
    """Record, passages and text agree, and no claim is left."""
    indexed = await ingestion.ingester.index(RECORD, upload(metadata={"k": "v"}))
    text = "# A\n\nFirst text."
    assert not indexed.unchanged
    assert (indexed.document.title, indexed.document.text_bytes) == ("A", len(text))
    assert indexed.document.content_sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert (await ledger.document(NAME)).metadata == {"k": "v"}
    assert await state.read() == state_of(text.encode())


async def test_index_of_passages_keeps_their_bytes(ingestion: Ingestion, index: FakeIndex):
    """Every passage is the text's own bytes; the title stands before it only in what is embedded."""
    text = "# Naslov čćž\n\n" + "Prva rečenica. " * 30
    await ingestion.ingester.index(RECORD, upload(text))
    points = sorted(index.points.values(), key=lambda point: point.ordinal)
    assert len(points) > 1
    for point in points:
        assert text.encode()[point.start_byte : point.end_byte].decode() == point.text
    assert [point.ordinal for point in points] == list(range(len(points)))


async def test_index_of_passages_the_model_cannot_read_cuts_them(
    ingestion: Ingestion, embedder: FakeEmbedder, index: FakeIndex
):
    """A passage that would be truncated is halved until the model reads it to its end, its offsets kept."""
    embedder.characters_max = 60
    text = "One two three four five. " * 20
    await ingestion.ingester.index(RECORD, upload(text, mime_type="text/plain"))
    for point in index.points.values():
        assert len(point.text) <= 60
        assert text[point.start_byte : point.end_byte] == point.text


async def test_index_of_the_same_again_does_nothing(ingestion: Ingestion, embedder: FakeEmbedder):
    """Same content, title, metadata and settings: unchanged. Any of them changed: a new revision."""
    await ingestion.ingester.index(RECORD, upload())
    embedded = len(embedder.texts)
    again = await ingestion.ingester.index(RECORD, upload())
    assert (again.unchanged, again.document.revision, len(embedder.texts)) == (True, 1, embedded)
    changes = [upload("Other."), upload("Other.", title="T"), upload("Other.", title="T", metadata={"k": 1.0})]
    assert [(await ingestion.ingester.index(RECORD, change)).document.revision for change in changes] == [2, 3, 4]


async def test_index_of_a_replacement_shows_only_the_new_revision(ingestion: Ingestion, state: State):
    """The replaced passages stay for readers of the past until they are collected; its text is kept to roll back to."""
    await ingestion.ingester.index(RECORD, upload("Old."))
    await ingestion.ingester.index(RECORD, upload("New."))
    assert await state.read() == state_of(b"Old.", b"New.")
    await ingestion.collect()
    assert await state.read() == state_of(b"Old.", b"New.") | {"stored": {("a.md", 2)}}


async def test_index_of_a_change_embeds_only_what_changed(
    ingestion: Ingestion, embedder: FakeEmbedder, index: FakeIndex
):
    """Unchanged passages take their vectors from the replaced revision, and are points of their own."""
    sections = [f"# Part {number}\n\n{f'Sentence {number} of it. ' * 8}\n" for number in range(5)]
    first = (await ingestion.ingester.index(RECORD, upload("".join(sections), title="T"))).document
    vectors = {point.text: point.dense.tolist() for point in index.points.values()}
    embedder.texts.clear()
    sections[2] = sections[2].replace("Sentence", "Phrase")
    second = (await ingestion.ingester.index(RECORD, upload("".join(sections), title="T"))).document
    assert embedder.texts
    assert all("Phrase" in text for text in embedder.texts)
    points = [point for point in index.points.values() if point.revision == 2]
    assert len(points) == second.chunk_count == first.chunk_count > len(embedder.texts)
    for point in points:
        assert point.dense.tolist() == vectors.get(point.text, point.dense.tolist())


async def test_index_create_only_of_an_existing_document_is_refused(ingestion: Ingestion, state: State):
    """Also with equal content."""
    await ingestion.ingester.index(RECORD, upload())
    before = await state.read()
    with pytest.raises(AlreadyExists):
        await ingestion.ingester.index(RECORD, upload(create_only=True))
    assert await state.read() == before


@pytest.mark.parametrize("content", ["", " \n", "a\x00b"])
async def test_index_of_bad_content_changes_nothing(content: str, ingestion: Ingestion, state: State):
    """Refused before anything is claimed."""
    await ingestion.ingester.index(RECORD, upload("Old."))
    before = await state.read()
    with pytest.raises(InvalidInput):
        await ingestion.ingester.index(RECORD, upload(content))
    assert await state.read() == before


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step[1])
@pytest.mark.parametrize("old", [(), (b"Old.",)], ids=["new", "replacement"])
async def test_index_that_fails_leaves_what_was_there(
    step: tuple[str, str], when: str, old: tuple[bytes, ...], state: State, request: pytest.FixtureRequest
):
    """Whichever step before the publish fails, before or after its effect: nothing new is kept, and the document is free."""
    store, method = step
    make_ingestion: MakeIngestion = request.getfixturevalue("make_ingestion")
    journal: Journal = request.getfixturevalue("journal")
    for text in old:
        await make_ingestion().ingester.index(RECORD, upload(text.decode()))
    real = request.getfixturevalue(store)
    broken = make_ingestion(**{store: Failing(real, method, DependencyUnavailable("down"), after=when == "after")})
    with pytest.raises(DependencyUnavailable):
        await broken.ingester.index(RECORD, upload("New."))
    recorded = (method, when) == ("begin_publish", "after")  # the intent is finished, not undone
    if recorded or (method, when) == ("claim", "after"):  # nobody knows of the claim: its lease runs out
        await journal.abandon_all()
        await make_ingestion().ingester.recover()
    assert await state.read() == state_of(*old, *([b"New."] if recorded else []))


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", [("index", "stamp"), ("journal", "finish_publish")], ids=lambda step: step[1])
async def test_index_that_fails_within_its_publish_is_finished_later(
    step: tuple[str, str], when: str, make_ingestion: MakeIngestion, state: State, request: pytest.FixtureRequest
):
    """The caller is told that it is stored; the next one to look finishes it, also a writer of the same document."""
    store, method = step
    await make_ingestion().ingester.index(RECORD, upload("Old."))
    real = request.getfixturevalue(store)
    broken = make_ingestion(**{store: Failing(real, method, DependencyUnavailable("down"), after=when == "after")})
    with pytest.raises(DependencyUnavailable) as caught:
        await broken.ingester.index(RECORD, upload("New."))
    assert caught.value.reason == "PUBLISH_PENDING"
    indexed = await make_ingestion().ingester.index(RECORD, upload("New."))
    assert (indexed.unchanged, indexed.document.revision) == (True, 2)
    assert await state.read() == state_of(b"Old.", b"New.")


async def test_index_longer_than_its_time_is_refused(
    make_ingestion: MakeIngestion, embedder: FakeEmbedder, state: State
):
    """A document that takes too long is its own error, not the end of its stream."""

    async def hang(*_arguments: Any, **_options: Any) -> None:
        await asyncio.Event().wait()

    embedder.passages = hang
    with pytest.raises(DeadlineTooShort, match=r"took longer than ingest_timeout_s = 0\.3 seconds"):
        await make_ingestion(timeout_s=0.3).ingester.index(RECORD, upload())
    assert await state.read() == state_of()


async def writing(ingestion: Ingestion, embedder: FakeEmbedder) -> tuple["asyncio.Task[Any]", Callable[[], None]]:
    """A write that has begun, and what lets it go on."""
    entered, release, real = asyncio.Event(), asyncio.Event(), embedder.passages

    async def hold(*arguments: Any, **options: Any) -> Any:
        entered.set()
        await release.wait()
        return await real(*arguments, **options)

    embedder.passages = hold
    task = asyncio.create_task(ingestion.ingester.index(RECORD, upload("New.")))
    await entered.wait()
    return task, release.set


async def test_index_cancelled_is_undone(ingestion: Ingestion, embedder: FakeEmbedder, state: State):
    """A client that leaves in the middle leaves nothing."""
    indexing, _ = await writing(ingestion, embedder)
    indexing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await indexing
    assert await state.read() == state_of()


async def test_index_whose_cleaning_fails_is_finished_later(
    make_ingestion: MakeIngestion, ingestion: Ingestion, state: State, index: FakeIndex
):
    """The upload fails, the store is down for the undo as well: the claim stays until `recover` can do it."""
    down = DependencyUnavailable("down")
    broken = Failing(Failing(index, "upsert", down, after=True), "delete_staged", down, after=False)
    with pytest.raises(DependencyUnavailable):
        await make_ingestion(index=broken).ingester.index(RECORD, upload())
    assert (await state.read())["claims"] == ["a.md"]
    with pytest.raises(DependencyUnavailable):
        await make_ingestion(index=broken).ingester.recover()
    await ingestion.ingester.recover()
    assert await state.read() == state_of()


async def test_index_with_another_embedding_model_is_refused(
    ingestion: Ingestion, embedder: FakeEmbedder, state: State
):
    """Vectors of two models never mix."""
    embedder.served = EmbeddingModel(model="m", digest="e" * 64, dim=2, batch_texts_max=8, languages=("en",))
    with pytest.raises(DependencyUnavailable) as caught:
        await ingestion.ingester.index(RECORD, upload())
    assert caught.value.reason == "EMBEDDING_MODEL_NOT_SERVED"
    assert await state.read() == state_of()


async def test_recover_leaves_writes_in_work_alone(ingestion: Ingestion, embedder: FakeEmbedder, state: State):
    """What is being written is not undone while its lease lasts."""
    task, release = await writing(ingestion, embedder)
    await ingestion.ingester.recover()
    assert (await state.read())["claims"] == ["a.md"]
    release()
    await task
    assert await state.read() == state_of(b"New.")


async def test_index_whose_claim_was_taken_over_is_refused(
    make_ingestion: MakeIngestion, embedder: FakeEmbedder, journal: Journal, state: State
):
    """A gateway that stood still for longer than its lease cannot undo or publish what another has in hand."""
    task, release = await writing(make_ingestion(), embedder)
    await journal.abandon_all()
    taken = await journal.take_over(NAME)
    assert taken is not None
    release()
    with pytest.raises(Conflict) as caught:
        await task
    assert caught.value.reason == "CLAIM_LOST"
    assert (await state.read())["claims"] == ["a.md"]
    await journal.abandon_all()
    await make_ingestion().ingester.recover()
    assert await state.read() == state_of()


async def test_index_after_an_undo_that_failed_undoes_it_first(ingestion: Ingestion, journal: Journal, state: State):
    """A store that was down for a moment must not lock a document until the next recovery."""
    claim = await journal.claim(NAME, Purpose.WRITE)
    await journal.abandon([claim.holder])
    assert (await ingestion.ingester.index(RECORD, upload("New."))).document.revision == 1
    assert await state.read() == state_of(b"New.")


async def test_index_while_the_document_is_written_waits_for_its_turn(
    ingestion: Ingestion, embedder: FakeEmbedder, state: State
):
    """A client whose stream broke sends a document again while its first try is still at work: nothing is done twice."""
    task, release = await writing(ingestion, embedder)
    again = asyncio.create_task(ingestion.ingester.index(RECORD, upload("New.")))
    release()
    assert (await task).unchanged is False
    assert (await again).unchanged is True
    assert await state.read() == state_of(b"New.")


async def test_index_of_many_documents_shares_publishes(ingestion: Ingestion, ledger: Ledger):
    """Documents that are ready together are shown together, and each knows its generation."""
    uploads = [upload(f"Text {number}.", name=COLLECTION.document(str(number))) for number in range(30)]
    done = await asyncio.gather(*(ingestion.ingester.index(RECORD, each) for each in uploads))
    collection = await ledger.collection(COLLECTION)
    assert (collection.document_count, collection.generation < 15) == (30, True)
    for indexed in done:
        assert (await ledger.document(indexed.document.name)).gen_from == indexed.document.gen_from


async def test_delete_shows_a_generation_without_the_document(ingestion: Ingestion, state: State):
    """At once for readers; what is left is collected. The second time it is not found; a new one begins at revision 1."""
    await ingestion.ingester.index(RECORD, upload("Old."))
    await ingestion.ingester.delete(RECORD, NAME, "")
    assert await state.read() == state_of(b"Old.") | {"revision": None, "seen": set()}
    with pytest.raises(NotFound):
        await ingestion.ingester.delete(RECORD, NAME, "")
    await ingestion.collect()
    assert await state.read() == state_of()
    assert (await ingestion.ingester.index(RECORD, upload())).document.revision == 1


async def test_rollback_publishes_the_old_text_as_a_new_revision(ingestion: Ingestion, state: State, ledger: Ledger):
    """With title and metadata, also after its passages were collected, also after a deletion; the live one stays as it is."""
    ingester = ingestion.ingester
    await ingester.index(RECORD, upload("Old.", title="O", metadata={"k": 1.0}))
    await ingester.index(RECORD, upload("New."))
    await ingestion.collect()
    assert (await ingester.rollback(RECORD, NAME, 1, "")).revision == 3
    live = await ledger.document(NAME)
    assert (live.revision, live.title, live.metadata, live.collected) == (3, "O", {"k": 1.0}, False)
    assert (await ingester.index(RECORD, upload("Old.", title="O", metadata={"k": 1.0}))).unchanged
    assert (await ingester.rollback(RECORD, NAME, 3, live.etag)) == live
    await ingester.delete(RECORD, NAME, "")
    assert (await ingester.rollback(RECORD, NAME, 2, "")).revision == 4
    expected = {"revision": 4, "seen": {("a.md", 4)}, "texts": [b"New.", b"New.", b"Old.", b"Old."], "claims": []}
    found = await state.read()
    assert {key: found[key] for key in expected} == expected


async def test_rollback_to_what_is_not_kept_is_refused(ingestion: Ingestion, state: State):
    """A revision that never was, one that was pruned, one under an old etag."""
    for text in (b"One.", b"Two.", b"Three."):
        await ingestion.ingester.index(RECORD, upload(text.decode()))
    await ingestion.collect()
    before = await state.read()
    assert before["texts"] == [b"Three.", b"Two."]
    for revision, etag, error in ((9, "", NotFound), (1, "", NotFound), (2, "1-other", Conflict)):
        with pytest.raises(error):
            await ingestion.ingester.rollback(RECORD, NAME, revision, etag)
    assert await state.read() == before


async def test_purge_leaves_nothing_in_any_generation(ingestion: Ingestion, state: State, ledger: Ledger):
    """Neither passages nor texts nor revisions; caches are out of date; a second time there is nothing to erase."""
    await ingestion.ingester.index(RECORD, upload("One."))
    await ingestion.ingester.index(RECORD, upload("Two."))
    assert await ingestion.ingester.purge(RECORD, NAME)
    assert await state.read() == state_of()
    assert (await ledger.collection_settings(COLLECTION)).cache_epoch == 1
    assert (await ledger.list_revisions(NAME, below=0, limit=9)).items == []
    assert not await ingestion.ingester.purge(RECORD, NAME)


@pytest.mark.parametrize("store, method", [("index", "delete_document"), ("blobs", "delete_document")])
async def test_purge_that_fails_is_finished_later(
    store: str, method: str, make_ingestion: MakeIngestion, state: State, request: pytest.FixtureRequest
):
    """An erasure that was begun is never undone."""
    await make_ingestion().ingester.index(RECORD, upload("One."))
    failing = Failing(request.getfixturevalue(store), method, DependencyUnavailable("down"), after=False)
    with pytest.raises(DependencyUnavailable):
        await make_ingestion(**{store: failing}).ingester.purge(RECORD, NAME)
    await make_ingestion().ingester.recover()
    assert await state.read() == state_of()


async def test_delete_collection_with_a_write_in_work_is_refused(ingestion: Ingestion, embedder: FakeEmbedder):
    """Or its passages would come back in a later collection of that name."""
    task, release = await writing(ingestion, embedder)
    with pytest.raises(Conflict):
        await ingestion.ingester.delete_collection(COLLECTION)
    release()
    assert (await task).document.revision == 1
    await ingestion.ingester.delete_collection(COLLECTION)


async def test_delete_collection_after_an_undo_that_failed_succeeds(
    ingestion: Ingestion, journal: Journal, ledger: Ledger
):
    """A claim that nobody is at is no writer."""
    claim = await journal.claim(NAME, Purpose.WRITE)
    await journal.abandon([claim.holder])
    await ingestion.ingester.delete_collection(COLLECTION)
    with pytest.raises(NotFound):
        await ledger.collection(COLLECTION)
