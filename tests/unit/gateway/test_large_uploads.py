"""Documents larger than what is held in memory: from the stream through the blob store into the parser."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from unit.gateway.fakes import COLLECTION, job_record
from unit.gateway.ingestion import RECORD, MakeIngestion, upload

from gannet_gateway.blobs.blobs import Blobs
from gannet_gateway.blobs.directory import DirectoryStore
from gannet_gateway.blobs.store import BlobWriter
from gannet_gateway.blobs.uploads import HELD_BYTES_MAX, READ_BYTES, IncomingUpload, StoredUpload
from gannet_gateway.documents.ingest import Upload
from gannet_gateway.documents.upload import Acceptance, Accepted, Ack, End, Message, Received, Start, UploadStream
from gannet_gateway.ledger.job import Job
from gannet_gateway.names import OperationName
from gannet_gateway.parsing.formats import CSV, PLAIN
from gannet_gateway.parsing.parser import Held
from gannet_service.errors import (
    DependencyUnavailable,
    GannetError,
    InternalError,
    InvalidInput,
    NotFound,
    Overloaded,
)

PIECE = 64 << 10
LARGE = 16 << 20


class CountingStore(DirectoryStore):
    """A directory that counts the bytes between a client and itself.

    Attributes:
        arrived: bytes that were sent so far.
        written: bytes that the store has taken.
        most: the most that were arrived and not written at once.
        reads: the lengths of what was read.
        failure: what writes raise, from `fails_at` bytes on.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.root = root
        self.arrived = self.written = self.most = 0
        self.reads: list[int] = []
        self.failure: Exception | None = None
        self.fails_at = 0
        self.writing: asyncio.Event | None = None

    def writer(self, key: str) -> Any:
        """Counts what it takes."""
        return CountingWriter(self, super().writer(key))

    async def read(self, key: str, start: int, end: int) -> bytes:
        """Counts what it gives."""
        self.reads.append(end - start)
        return await super().read(key, start, end)

    def sends(self, data: bytes) -> bytes:
        """`data`, now that it leaves the client."""
        self.arrived += len(data)
        self.most = max(self.most, self.arrived - self.written)
        return data

    def files(self) -> list[Path]:
        """All that there is, half written ones as well."""
        return [path for path in self.root.rglob("*") if path.is_file()]


class CountingWriter:
    """See CountingStore."""

    def __init__(self, store: CountingStore, inner: BlobWriter) -> None:
        self._store, self._inner = store, inner
        self.finish, self.discard = inner.finish, inner.discard

    async def write(self, piece: bytes) -> None:
        """Fails where it is told to."""
        await self._inner.write(piece)
        self._store.written += len(piece)
        if self._store.writing is not None:
            self._store.writing.set()
        if self._store.failure is not None and self._store.written > self._store.fails_at:
            failure, self._store.failure = self._store.failure, None
            raise failure


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    """An empty one."""
    return CountingStore(tmp_path / "counted")


class Server:
    """Accepts what comes and keeps it; `refusal` is raised instead."""

    def __init__(self, store: CountingStore) -> None:
        self.blobs = Blobs(store)
        self.accepted: list[Upload] = []
        self.refusal: GannetError | None = None

    async def accept(self, upload: Upload, _request_id: str) -> OperationName:
        """See Acceptance."""
        if self.refusal is not None:
            raise self.refusal
        self.accepted.append(upload)
        return OperationName("acme", upload.name.document)

    async def ended(self, operation: OperationName) -> Job:
        """See Acceptance."""
        return job_record(operation=operation.operation)

    def stream(self, *, document_bytes_max: int = 2 * LARGE, in_work_max: int = 4) -> UploadStream:
        """A stream into it."""
        acceptance = Acceptance(
            receive=lambda: IncomingUpload(self.blobs, COLLECTION),
            accept=self.accept,
            ended=self.ended,
            accepted_only=True,
        )
        return UploadStream(
            acceptance, document_bytes_max=document_bytes_max, in_work_max=in_work_max, draining=asyncio.Event()
        )


@pytest.fixture
def server(store: CountingStore) -> Server:
    """Over the counting store."""
    return Server(store)


def document(store: CountingStore, name: str, size: int, sha256: bytes = b"") -> Iterator[Message]:
    """A document's messages, each counted when it is sent."""

    def make(content: Held | StoredUpload) -> Upload:
        return Upload(
            name=COLLECTION.document(name),
            content=content,
            mime_type=PLAIN,
            title="",
            metadata={},
            create_only=False,
        )

    yield Start(document_id=name, make=make)
    for at in range(0, size, PIECE):
        yield store.sends(bytes([at // PIECE % 251]) * min(PIECE, size - at))
    yield End(sha256=sha256)


def content_of(size: int) -> bytes:
    """What `document` sends."""
    return b"".join(bytes([at // PIECE % 251]) * min(PIECE, size - at) for at in range(0, size, PIECE))


async def run(stream: UploadStream, *documents: Iterator[Message]) -> list[Ack]:
    """All acknowledgements, by document."""

    async def messages() -> AsyncIterator[Message]:
        for each in documents:
            for message in each:
                yield message

    return sorted([ack async for ack in stream.run(messages())], key=lambda ack: ack.index)


def outcomes(acks: list[Ack]) -> list[tuple[str, type]]:
    """What became of which document."""
    return [(ack.document_id, type(ack.outcome)) for ack in acks]


async def whole(content: Held | StoredUpload) -> bytes:
    """All bytes of a content."""
    return b"".join([piece async for piece in content.pieces()])


async def test_large_document_is_never_held(store: CountingStore, server: Server):
    """However large it is, what the store does not have yet is one buffer and the piece that is arriving."""
    acks = await run(server.stream(), document(store, "a", LARGE))
    assert outcomes(acks) == [("a", Received), ("a", Accepted)]
    assert store.most <= HELD_BYTES_MAX + PIECE
    content = server.accepted[0].content
    assert isinstance(content, StoredUpload)
    assert (content.size, content.sha256) == (LARGE, hashlib.sha256(content_of(LARGE)).digest())
    assert await whole(content) == content_of(LARGE)
    assert max(store.reads) == READ_BYTES


async def test_large_documents_are_bounded_together(store: CountingStore, server: Server):
    """One buffer for each document in work and for the one that is arriving."""
    size = 20 * PIECE + 1
    acks = await run(server.stream(in_work_max=2), *(document(store, name, size) for name in "abcdefgh"))
    assert [type(ack.outcome) for ack in acks] == [Received, Accepted] * 8
    assert store.most <= 3 * (HELD_BYTES_MAX + PIECE)
    assert [await whole(each.content) for each in server.accepted] == [content_of(size)] * 8


@pytest.mark.parametrize("size", [0, 1, HELD_BYTES_MAX])
async def test_small_document_is_not_stored_before_it_is_accepted(store: CountingStore, server: Server, size: int):
    """One call of the store is enough for it, and a refused one costs none."""
    await run(server.stream(), document(store, "a", size))
    (accepted,) = server.accepted
    assert accepted.content == Held(content_of(size))
    assert store.files() == []


async def test_document_over_the_limit_leaves_nothing(store: CountingStore, server: Server):
    """What was stored of it is removed, and the next one is taken."""
    acks = await run(server.stream(document_bytes_max=1 << 20), document(store, "a", LARGE), document(store, "b", 3))
    assert outcomes(acks) == [("a", InvalidInput), ("b", Received), ("b", Accepted)]
    assert store.files() == []
    assert store.written <= 1 << 20


async def test_document_with_a_wrong_digest_leaves_nothing(store: CountingStore, server: Server):
    """The right digest is taken, over however many pieces."""
    right = hashlib.sha256(content_of(LARGE)).digest()
    acks = await run(server.stream(), document(store, "a", LARGE, b"\x00" * 32), document(store, "b", LARGE, right))
    assert outcomes(acks) == [("a", InvalidInput), ("b", Received), ("b", Accepted)]
    assert [path.stat().st_size for path in store.files()] == [LARGE]


@pytest.mark.parametrize(
    "failure, told",
    [(DependencyUnavailable("down"), DependencyUnavailable), (OSError(28, "No space left on device"), InternalError)],
)
async def test_store_that_fails_in_the_middle_fails_one_document(
    store: CountingStore, server: Server, failure: Exception, told: type
):
    """The rest of it is passed over, nothing of it stays, and the stream goes on."""
    store.failure, store.fails_at = failure, LARGE // 2
    acks = await run(server.stream(), document(store, "a", LARGE), document(store, "b", LARGE))
    assert outcomes(acks) == [("a", told), ("b", Received), ("b", Accepted)]
    assert [path.stat().st_size for path in store.files()] == [LARGE]


async def test_document_that_is_not_accepted_leaves_nothing(store: CountingStore, server: Server):
    """A full queue, say."""
    server.refusal = Overloaded("full")
    acks = await run(server.stream(), document(store, "a", LARGE))
    assert outcomes(acks) == [("a", Received), ("a", Overloaded)]
    assert store.files() == []


async def test_client_that_leaves_in_the_middle_leaves_nothing(store: CountingStore, server: Server):
    """Also when the store is at work in that moment."""
    store.writing = asyncio.Event()

    async def messages() -> AsyncIterator[Message]:
        for message in document(store, "a", LARGE):
            if not isinstance(message, End):
                yield message
        await asyncio.Future()

    running = server.stream().run(messages())
    waiting = asyncio.ensure_future(anext(running))
    await store.writing.wait()
    assert store.files() != []
    waiting.cancel()
    await asyncio.wait([waiting])
    await running.aclose()
    assert store.files() == []


async def test_stream_that_breaks_off_in_a_document_leaves_nothing(store: CountingStore, server: Server):
    """No end is a mistake, and its bytes are nobody's."""
    messages = [message for message in document(store, "a", LARGE) if not isinstance(message, End)]
    with pytest.raises(InvalidInput, match="end: missing"):
        await run(server.stream(), iter(messages))
    assert store.files() == []


# ---- reading back -------------------------------------------------------------------------------------------------


async def stored(store: CountingStore, content: bytes) -> StoredUpload:
    """`content` in the store."""
    incoming = IncomingUpload(Blobs(store), COLLECTION)
    await incoming.write(content)
    kept = await incoming.finish()
    assert isinstance(kept, StoredUpload)
    return kept


async def test_stored_document_is_parsed_by_the_piece(store: CountingStore, make_ingestion: MakeIngestion):
    """And it is the same document as one in memory: not read at all where nothing has changed."""
    content = b"name,place\n" + b"auk,\n" * 60_000
    ingestion = make_ingestion()
    csv = upload(mime_type=CSV)
    from_store = Upload(**fields(csv) | {"content": await stored(store, content)})
    indexed = await ingestion.ingester.index(RECORD, from_store)
    assert (indexed.unchanged, indexed.document.content_sha256) == (False, hashlib.sha256(content).hexdigest())
    assert (max(store.reads), sum(store.reads)) == (READ_BYTES, len(content))
    store.reads.clear()
    assert (await ingestion.ingester.index(RECORD, from_store)).unchanged
    assert (await ingestion.ingester.index(RECORD, Upload(**fields(csv) | {"content": Held(content)}))).unchanged
    assert store.reads == []


def fields(value: Upload) -> dict[str, Any]:
    """Of an upload, by name."""
    return {name: getattr(value, name) for name in ("name", "mime_type", "title", "metadata", "create_only")}


@pytest.mark.parametrize("damage", [b"", b"x", b"x" * LARGE])
async def test_stored_document_that_was_damaged_is_not_taken(store: CountingStore, damage: bytes):
    """Shorter or other bytes than those that arrived are an error, not a document."""
    content = await stored(store, content_of(1 << 20))
    (path,) = store.files()
    path.write_bytes(damage)
    with pytest.raises(InternalError) as caught:
        await whole(content)
    assert caught.value.reason == "UPLOAD_DAMAGED"


async def test_stored_document_that_was_erased_is_not_found(store: CountingStore):
    """A purge takes uploads, too."""
    content = await stored(store, content_of(1 << 20))
    await content.blobs.delete_upload(content.key)
    with pytest.raises(NotFound) as caught:
        await whole(content)
    assert caught.value.reason == "UPLOAD_GONE"
