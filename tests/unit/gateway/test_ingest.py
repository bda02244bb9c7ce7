import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from unit.gateway.fakes import COLLECTION, Crash, Failing, FakeEmbedder, FakeIndex, collection_record

from gannet_gateway.blobs import Blobs
from gannet_gateway.clients import EmbeddingModel
from gannet_gateway.documents.ingest import Ingester, Upload
from gannet_gateway.ledger.ledger import Ledger
from gannet_service.errors import (
    AlreadyExists,
    Conflict,
    DeadlineTooShort,
    DependencyUnavailable,
    InvalidInput,
    NotFound,
)

NAME = COLLECTION.document("a.md")
RECORD = collection_record()
# Every step of a write, in order: the attribute of the ingester that holds the store, and the store's method.
STEPS = [
    ("_blobs", "put"),
    ("_embedder", "passages"),
    ("_index", "upsert"),
    ("_ledger", "commit_write"),
    ("_index", "delete_other_revisions"),
    ("_blobs", "delete_others"),
    ("_ledger", "end_intent"),
]


def upload(content: str = "# A\n\nFirst text.", **fields: Any) -> Upload:
    """A document."""
    defaults = {"name": NAME, "mime_type": "text/markdown", "title": "", "metadata": {}, "create_only": False}
    return Upload(content=content.encode(), **{**defaults, **fields})


@pytest.fixture
def ingester(ledger: Ledger, blobs: Blobs, embedder: FakeEmbedder, index: FakeIndex) -> Ingester:
    """An ingester over real ledger and blobs."""
    return new_ingester(ledger, blobs, embedder, index)


def new_ingester(ledger: Any, blobs: Any, embedder: Any, index: Any, timeout_s: float = 30.0) -> Ingester:
    """An ingester as after a start."""
    return Ingester(ledger, blobs, embedder, index, timeout_s=timeout_s)


class State:
    """What is stored of everything, to compare before and after."""

    def __init__(self, ledger: Ledger, index: FakeIndex, root: Path) -> None:
        self._ledger, self._index, self._root = ledger, index, root

    async def read(self) -> dict[str, Any]:
        """The live document, its passages, its text, and open claims."""
        live = await self._ledger.find_document(NAME)
        return {
            "revision": live and live.revision,
            "passages": self._index.revisions(),
            "texts": sorted(path.read_bytes() for path in self._root.rglob("*") if path.is_file()),
            "intents": await self._ledger.open_intents(),
        }


@pytest.fixture
def state(ledger: Ledger, index: FakeIndex, tmp_path: Path) -> State:
    """Reads all stores."""
    return State(ledger, index, tmp_path / "blobs")


async def test_index_of_a_new_document_stores_it_everywhere(ingester: Ingester, state: State, ledger: Ledger):
    """Record, passages and text agree, and no claim is left."""
    indexed = await ingester.index(RECORD, upload(metadata={"k": "v"}))
    text = "# A\n\nFirst text."
    assert not indexed.unchanged
    assert (indexed.document.title, indexed.document.text_bytes) == ("A", len(text))
    assert indexed.document.content_sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert (await ledger.document(NAME)).metadata == {"k": "v"}
    assert await state.read() == {"revision": 1, "passages": {("a.md", 1)}, "texts": [text.encode()], "intents": []}


async def test_index_of_passages_keeps_their_bytes(ingester: Ingester, index: FakeIndex):
    """Every passage is the text's own bytes; the title stands before it only in what is embedded."""
    text = "# Naslov čćž\n\n" + "Prva rečenica. " * 30
    await ingester.index(RECORD, upload(text))
    points = sorted(index.points.values(), key=lambda point: point.ordinal)
    assert len(points) > 1
    for point in points:
        assert text.encode()[point.start_byte : point.end_byte].decode() == point.text
    assert [point.ordinal for point in points] == list(range(len(points)))


async def test_index_of_passages_the_model_cannot_read_cuts_them(
    ingester: Ingester, embedder: FakeEmbedder, index: FakeIndex
):
    """A passage that would be truncated is halved until the model reads it to its end, its offsets kept."""
    embedder.characters_max = 60
    text = "One two three four five. " * 20
    await ingester.index(RECORD, upload(text, mime_type="text/plain"))
    for point in index.points.values():
        assert len(point.text) <= 60
        assert text[point.start_byte : point.end_byte] == point.text


async def test_index_of_the_same_again_does_nothing(ingester: Ingester, embedder: FakeEmbedder):
    """Same content, title, metadata and settings: unchanged. Any of them changed: a new revision."""
    await ingester.index(RECORD, upload())
    embedded = len(embedder.texts)
    again = await ingester.index(RECORD, upload())
    assert (again.unchanged, again.document.revision, len(embedder.texts)) == (True, 1, embedded)
    changes = [upload("Other."), upload("Other.", title="T"), upload("Other.", title="T", metadata={"k": 1.0})]
    assert [(await ingester.index(RECORD, change)).document.revision for change in changes] == [2, 3, 4]


async def test_index_of_a_replacement_leaves_only_the_new_revision(ingester: Ingester, state: State):
    """The replaced passages and text are gone."""
    await ingester.index(RECORD, upload("Old."))
    await ingester.index(RECORD, upload("New."))
    assert await state.read() == {"revision": 2, "passages": {("a.md", 2)}, "texts": [b"New."], "intents": []}


async def test_index_create_only_of_an_existing_document_is_refused(ingester: Ingester, state: State):
    """Also with equal content."""
    await ingester.index(RECORD, upload())
    before = await state.read()
    with pytest.raises(AlreadyExists):
        await ingester.index(RECORD, upload(create_only=True))
    assert await state.read() == before


@pytest.mark.parametrize("content", ["", " \n", "a\x00b"])
async def test_index_of_bad_content_changes_nothing(content: str, ingester: Ingester, state: State):
    """Refused before anything is claimed."""
    await ingester.index(RECORD, upload("Old."))
    before = await state.read()
    with pytest.raises(InvalidInput):
        await ingester.index(RECORD, upload(content))
    assert await state.read() == before


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS[:4], ids=lambda step: step[1])
@pytest.mark.parametrize("old_text", ["", "Old."], ids=["new", "replacement"])
async def test_index_that_fails_leaves_one_whole_revision(
    step: tuple[str, str], when: str, old_text: str, ingester: Ingester, state: State
):
    """Whichever step fails, before or after its effect: the old revision or the new one, whole, and no claim."""
    if old_text:
        await ingester.index(RECORD, upload(old_text))
    old = await state.read()
    store, method = step
    real = getattr(ingester, store)
    setattr(ingester, store, Failing(real, method, DependencyUnavailable("down"), after=when == "after"))
    with pytest.raises(DependencyUnavailable):
        await ingester.index(RECORD, upload("New."))
    committed = (method, when) == ("commit_write", "after")
    revision = 2 if old_text else 1
    new = {"revision": revision, "passages": {("a.md", revision)}, "texts": [b"New."], "intents": []}
    assert await state.read() == (new if committed else old)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step[1])
async def test_crash_at_any_step_is_finished_or_undone_at_the_next_start(
    step: tuple[str, str], when: str, ingester: Ingester, state: State, monkeypatch: pytest.MonkeyPatch
):
    """After `recover` there is one whole revision: the old one before the commit, the new one from then on."""
    await ingester.index(RECORD, upload("Old."))
    old = await state.read()
    store, method = step
    at, commit = STEPS.index(step), STEPS.index(("_ledger", "commit_write"))
    stores = (ingester._ledger, ingester._blobs, ingester._embedder, ingester._index)
    setattr(ingester, store, Failing(getattr(ingester, store), method, Crash(), after=when == "after"))
    if at <= commit:  # a dead process cleans nothing up
        monkeypatch.setattr(ingester, "_settle", _nothing)
    with pytest.raises(Crash):
        await ingester.index(RECORD, upload("New."))
    await new_ingester(*stores).recover()
    committed = at > commit or (at == commit and when == "after")
    new = {"revision": 2, "passages": {("a.md", 2)}, "texts": [b"New."], "intents": []}
    assert await state.read() == (new if committed else old)


async def _nothing(_intent: Any) -> None: ...


async def test_index_longer_than_its_time_is_refused(
    ledger: Ledger, blobs: Blobs, embedder: FakeEmbedder, index: FakeIndex, state: State
):
    """A document that takes too long is its own error, not the end of its stream."""
    before = await state.read()

    async def hang(*_arguments: Any, **_options: Any) -> None:
        await asyncio.Event().wait()

    embedder.passages = hang
    with pytest.raises(DeadlineTooShort, match=r"took longer than ingest_timeout_s = 0\.01 seconds"):
        await new_ingester(ledger, blobs, embedder, index, timeout_s=0.01).index(RECORD, upload())
    assert await state.read() == before


async def test_index_cancelled_is_undone(ingester: Ingester, embedder: FakeEmbedder, state: State):
    """A client that leaves in the middle leaves nothing."""
    before = await state.read()
    entered = asyncio.Event()

    async def hang(*_arguments: Any, **_options: Any) -> None:
        entered.set()
        await asyncio.Event().wait()

    embedder.passages = hang
    indexing = asyncio.ensure_future(ingester.index(RECORD, upload()))
    await entered.wait()
    indexing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await indexing
    assert await state.read() == before


async def test_index_whose_cleaning_fails_is_finished_later(
    ingester: Ingester, state: State, ledger: Ledger, index: FakeIndex
):
    """The upload fails, the store is down for the undo as well: the claim stays until `recover` can do it."""
    real = ingester._index
    ingester._index = Failing(
        Failing(real, "upsert", DependencyUnavailable("down"), after=True),
        "delete_other_revisions",
        DependencyUnavailable("down"),
        after=False,
    )
    with pytest.raises(DependencyUnavailable):
        await ingester.index(RECORD, upload())
    assert len(await ledger.open_intents()) == 1
    with pytest.raises(DependencyUnavailable):
        await ingester.recover()
    ingester._index = real
    await ingester.recover()
    assert await state.read() == {"revision": None, "passages": set(), "texts": [], "intents": []}


async def test_index_with_another_embedding_model_is_refused(ingester: Ingester, embedder: FakeEmbedder, state: State):
    """Vectors of two models never mix."""
    before = await state.read()
    embedder.served = EmbeddingModel(model="m", digest="e" * 64, dim=2, batch_texts_max=8, languages=("en",))
    with pytest.raises(DependencyUnavailable) as caught:
        await ingester.index(RECORD, upload())
    assert caught.value.reason == "EMBEDDING_MODEL_NOT_SERVED"
    assert await state.read() == before


async def writing(ingester: Ingester, embedder: FakeEmbedder) -> tuple["asyncio.Task[Any]", Callable[[], None]]:
    """A write that has begun, and what lets it go on."""
    entered, release, real = asyncio.Event(), asyncio.Event(), embedder.passages

    async def hold(*arguments: Any, **options: Any) -> Any:
        entered.set()
        await release.wait()
        return await real(*arguments, **options)

    embedder.passages = hold
    task = asyncio.create_task(ingester.index(RECORD, upload("New.")))
    await entered.wait()
    return task, release.set


async def test_recover_leaves_writes_in_work_alone(ingester: Ingester, embedder: FakeEmbedder, state: State):
    """What is being written is neither undone nor swept."""
    await ingester.index(RECORD, upload("Old."))
    task, release = await writing(ingester, embedder)
    await ingester.recover()
    assert b"New." in (await state.read())["texts"]
    release()
    await task
    assert await state.read() == {"revision": 2, "passages": {("a.md", 2)}, "texts": [b"New."], "intents": []}


async def test_index_after_an_undo_that_failed_undoes_it_first(ingester: Ingester, ledger: Ledger, state: State):
    """A store that was down for a moment must not lock a document until the next recovery."""
    await ledger.begin_write(NAME)
    assert (await ingester.index(RECORD, upload("New."))).document.revision == 1
    assert await state.read() == {"revision": 1, "passages": {("a.md", 1)}, "texts": [b"New."], "intents": []}


async def test_index_while_the_document_is_written_waits_for_its_turn(
    ingester: Ingester, embedder: FakeEmbedder, state: State
):
    """A client whose stream broke sends a document again while its first try is still at work: nothing is done twice."""
    task, release = await writing(ingester, embedder)
    again = asyncio.create_task(ingester.index(RECORD, upload("New.")))
    release()
    assert (await task).unchanged is False
    assert (await again).unchanged is True
    assert (await state.read())["revision"] == 1


async def test_index_after_a_cancelled_write_of_the_document_succeeds(
    ingester: Ingester, embedder: FakeEmbedder, state: State
):
    """The undo of the broken try comes first, then the document is stored."""
    real = embedder.passages
    task, _ = await writing(ingester, embedder)
    embedder.passages = real
    again = asyncio.create_task(ingester.index(RECORD, upload("New.")))
    task.cancel()
    assert (await again).document.revision == 1
    assert await state.read() == {"revision": 1, "passages": {("a.md", 1)}, "texts": [b"New."], "intents": []}


async def test_delete_collection_with_a_write_in_work_is_refused(ingester: Ingester, embedder: FakeEmbedder):
    """Or its passages would come back in a later collection of that name."""
    task, release = await writing(ingester, embedder)
    with pytest.raises(Conflict):
        await ingester.delete_collection(COLLECTION)
    release()
    assert (await task).document.revision == 1
    await ingester.delete_collection(COLLECTION)


async def test_delete_collection_after_an_undo_that_failed_succeeds(ingester: Ingester, ledger: Ledger):
    """A claim that nobody is at is no writer."""
    await ledger.begin_write(NAME)
    await ingester.delete_collection(COLLECTION)
    with pytest.raises(NotFound):
        await ledger.collection(COLLECTION)


async def test_delete_of_a_document_removes_everything(ingester: Ingester, state: State):
    """Record, passages, text; the second time it is not found; a new one begins at revision 1."""
    await ingester.index(RECORD, upload())
    await ingester.delete(NAME, "")
    assert await state.read() == {"revision": None, "passages": set(), "texts": [], "intents": []}
    with pytest.raises(NotFound):
        await ingester.delete(NAME, "")
    assert (await ingester.index(RECORD, upload())).document.revision == 1


async def test_delete_that_crashes_is_finished_at_the_next_start(ingester: Ingester, state: State):
    """A document that is half deleted is deleted."""
    await ingester.index(RECORD, upload())
    real = ingester._index
    ingester._index = Failing(real, "delete_other_revisions", DependencyUnavailable("down"), after=False)
    with pytest.raises(DependencyUnavailable):
        await ingester.delete(NAME, "")
    ingester._index = real
    await ingester.recover()
    assert await state.read() == {"revision": None, "passages": set(), "texts": [], "intents": []}


@pytest.mark.parametrize("store, method", [("_index", "delete_collection"), ("_blobs", "delete_collection")])
async def test_delete_collection_that_crashes_is_finished_at_the_next_start(
    store: str, method: str, ingester: Ingester, state: State, ledger: Ledger
):
    """It is hidden at once and gone after `recover`, with all its documents."""
    await ingester.index(RECORD, upload())
    real = getattr(ingester, store)
    setattr(ingester, store, Failing(real, method, Crash(), after=False))
    with pytest.raises(Crash):
        await ingester.delete_collection(COLLECTION)
    with pytest.raises(NotFound):
        await ledger.collection(COLLECTION)
    setattr(ingester, store, real)
    await ingester.recover()
    assert await state.read() == {"revision": None, "passages": set(), "texts": [], "intents": []}
    assert await ledger.collections_being_deleted() == []


async def test_start_waits_for_the_vector_store(ingester: Ingester, monkeypatch: pytest.MonkeyPatch):
    """A gateway that is up before its vector store becomes ready when the store does."""
    monkeypatch.setattr("gannet_gateway.documents.ingest.START_PERIOD_S", 0.0)
    answers = iter([DependencyUnavailable("down"), DependencyUnavailable("down"), None])

    async def check_version() -> None:
        answer = next(answers)
        if answer is not None:
            raise answer

    ingester._index.check_version = check_version
    await ingester.start()
    assert next(answers, "asked three times") == "asked three times"
