"""One document from bytes to searchable passages, or not at all.

Order: claim the document in the ledger, store its text, embed all passages, store the points, make the revision live in the ledger,
sweep the revision that it replaces, release the claim. Whatever fails before "live" is undone; whatever fails after is finished by
`recover`, which also runs at start-up and now and then. A document that was acknowledged is durable in all three stores.
"""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass

import structlog

from gannet_gateway.blobs import Blobs
from gannet_gateway.clients import Embedder, TextVectors
from gannet_gateway.documents.chunking import Chunk, chunk, first_heading
from gannet_gateway.documents.formats import to_text
from gannet_gateway.ledger.ledger import Ledger
from gannet_gateway.ledger.records import Collection, Document, Intent, MetadataValue
from gannet_gateway.names import CollectionName, DocumentName
from gannet_gateway.vectors.index import Index
from gannet_gateway.vectors.points import PassagePoint, qdrant_collection
from gannet_service.errors import (
    AlreadyExists,
    Conflict,
    DeadlineTooShort,
    DependencyUnavailable,
    GannetError,
    NotFound,
)

# Part of every fingerprint: documents are indexed again when passages would be cut or weighed in another way.
PIPELINE_REVISION = 1
TITLE_CHARACTERS_MAX = 200
SPLITS_MAX = 6
RECOVERY_PERIOD_S = 15.0
START_PERIOD_S = 0.5
# BM25 terms per character of English and Croatian text, stop words left out, times how full chunks are on average.
TERMS_PER_CHUNK_CHARACTER = 1 / 14

_log: structlog.stdlib.BoundLogger = structlog.get_logger("ingest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A document as it arrived, its fields checked."""

    name: DocumentName
    content: bytes
    mime_type: str
    title: str
    metadata: Mapping[str, MetadataValue]
    create_only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexed:
    """What became of an upload."""

    document: Document
    unchanged: bool


class Ingester:
    """Indexes, deletes, and tidies up after crashes."""

    def __init__(self, ledger: Ledger, blobs: Blobs, embedder: Embedder, index: Index, *, timeout_s: float) -> None:
        self._ledger = ledger
        self._blobs = blobs
        self._embedder = embedder
        self._index = index
        self._timeout_s = timeout_s
        self._in_work: dict[DocumentName | CollectionName, asyncio.Event] = {}

    async def index(self, collection: Collection, upload: Upload) -> Indexed:
        """Store `upload` as the live revision of its document.

        Raises:
            GannetError: nothing of the upload is kept, and what was stored before is unchanged.
        """
        async with self._turn(upload.name):
            live = await self._ledger.find_document(upload.name)
            if live is not None and upload.create_only:
                raise AlreadyExists(f"{upload.name} exists already", field="document_id")
            fingerprint = _fingerprint(collection, upload)
            if live is not None and live.fingerprint == fingerprint:
                return Indexed(document=live, unchanged=True)
            text = await asyncio.to_thread(to_text, upload.content, upload.mime_type)
            return Indexed(document=await self._replace(collection, upload, text, fingerprint), unchanged=False)

    async def _replace(self, collection: Collection, upload: Upload, text: str, fingerprint: str) -> Document:
        revision = await self._claim(upload)
        intent = Intent(document=upload.name, revision=revision)
        try:
            async with asyncio.timeout(self._timeout_s):
                document = await self._write(collection, upload, text, revision, fingerprint)
        except BaseException as error:
            await asyncio.shield(self._settle(intent))
            if isinstance(error, TimeoutError):
                problem = f"{upload.name} took longer than ingest_timeout_s = {self._timeout_s:g} seconds"
                raise DeadlineTooShort(problem) from error
            raise
        await self._settle(intent)
        return document

    async def _claim(self, upload: Upload) -> int:
        try:
            return await self._ledger.begin_write(upload.name, create_only=upload.create_only)
        except Conflict:
            # Nobody else is at it, this is our turn: the claim is that of a write whose undo failed when a store was down.
            await self._undo_or_sweep(Intent(document=upload.name, revision=0))
            return await self._ledger.begin_write(upload.name, create_only=upload.create_only)

    async def delete(self, name: DocumentName, etag: str) -> None:
        """Remove a document; raises NotFound, Conflict. Readers stop seeing it before its rows are gone for good."""
        async with self._turn(name):
            await self._ledger.begin_delete(name, etag)
            await self._undo_or_sweep(Intent(document=name, revision=0))

    async def delete_collection(self, name: CollectionName) -> None:
        """Remove a collection and all in it; raises NotFound, Conflict (a document of it is being written)."""
        collection = await self._ledger.collection_settings(name)
        # Claims that a failed undo left behind are no writers; what is left after this is at work.
        await self._settle_claims(name)
        async with self._turn(name):
            await self._ledger.begin_delete_collection(name)
            await self._erase(name, collection.embedding_model, collection.embedding_model_digest)

    async def recover(self) -> None:
        """Finish or undo what a crash or a lost dependency interrupted.

        Raises:
            GannetError: a store does not answer; try again later.
        """
        for name, model, digest in await self._ledger.collections_being_deleted():
            if name not in self._in_work:
                async with self._turn(name):
                    await self._erase(name, model, digest)
        await self._settle_claims()

    async def _settle_claims(self, collection: CollectionName | None = None) -> None:
        """Finish or undo the writes that nobody is at, of one collection or of all."""
        for intent in await self._ledger.open_intents():
            wanted = collection in (None, intent.document.parent)
            if wanted and intent.document not in self._in_work:
                async with self._turn(intent.document):
                    await self._undo_or_sweep(intent)

    async def start(self) -> None:
        """Wait for the vector store, check its version, and recover. Cancelled when the server stops before that.

        Raises:
            RuntimeError: the vector store is too old.
        """
        while True:
            try:
                await self._index.check_version()
                await self.recover()
            except GannetError as error:
                _log.info("waiting for the stores", reason=error.reason, message=error.message)
                await asyncio.sleep(START_PERIOD_S)
            else:
                return

    async def recover_now_and_then(self) -> None:
        """Run `recover` until cancelled: an undo that failed because a store was down must not wait for a restart."""
        while True:
            await asyncio.sleep(RECOVERY_PERIOD_S)
            try:
                await self.recover()
            except GannetError as error:
                _log.warning("recovery postponed", reason=error.reason, message=error.message)

    @contextlib.asynccontextmanager
    async def _turn(self, name: DocumentName | CollectionName) -> AsyncGenerator[None]:
        """Wait until no other call changes `name`, and keep them and `recover` away meanwhile.

        A client whose stream broke sends its documents again while the broken stream's are still being undone.
        """
        while (busy := self._in_work.get(name)) is not None:
            await busy.wait()
        done = self._in_work[name] = asyncio.Event()
        try:
            yield
        finally:
            del self._in_work[name]
            done.set()

    async def _write(
        self, collection: Collection, upload: Upload, text: str, revision: int, fingerprint: str
    ) -> Document:
        encoded = text.encode()
        title = upload.title or await asyncio.to_thread(first_heading, text)
        title = title[:TITLE_CHARACTERS_MAX]
        await self._blobs.put(upload.name, revision, encoded)
        points = await self._embed(collection, upload, text, title, revision)
        await self._index.upsert(_qdrant(collection), points)
        document = Document(
            name=upload.name,
            revision=revision,
            title=title,
            mime_type=upload.mime_type,
            metadata=upload.metadata,
            text_bytes=len(encoded),
            chunk_count=len(points),
            content_sha256=hashlib.sha256(upload.content).hexdigest(),
            fingerprint=fingerprint,
            created_at_s=0.0,
            updated_at_s=0.0,
        )
        await self._ledger.commit_write(document)
        return document

    async def _embed(
        self, collection: Collection, upload: Upload, text: str, title: str, revision: int
    ) -> list[PassagePoint]:
        """Cut and embed; a passage that the model would not read to its end is cut further."""
        model = await self._embedder.model()
        if model.digest != collection.embedding_model_digest:
            raise DependencyUnavailable(
                f"{collection.name} needs embedding model {collection.embedding_model} ({collection.embedding_model_digest[:12]}); "
                f"the embedder serves {model.model} ({model.digest[:12]})",
                reason="EMBEDDING_MODEL_NOT_SERVED",
            )
        chunks = await asyncio.to_thread(chunk, text, size=collection.chunk_size, overlap=collection.chunk_overlap)
        pairs = await self._vectors(collection, title, chunks, splits_left=SPLITS_MAX)
        return [
            PassagePoint(
                document=upload.name,
                revision=revision,
                ordinal=ordinal,
                text=piece.text,
                start_byte=piece.start_byte,
                end_byte=piece.end_byte,
                title=_passage_title(title, piece.heading),
                metadata=dict(upload.metadata),
                dense=vectors.dense,
                sparse=vectors.sparse,
            )
            for ordinal, (piece, vectors) in enumerate(pairs)
        ]

    async def _vectors(
        self, collection: Collection, title: str, chunks: list[Chunk], *, splits_left: int
    ) -> list[tuple[Chunk, TextVectors]]:
        # The title goes in front of every passage: a passage from the middle of a document seldom names its subject.
        texts = [f"{_passage_title(title, piece.heading)}\n{piece.text}".lstrip() for piece in chunks]
        vectors = await self._embedder.passages(
            texts,
            language=collection.language,
            average_length=max(1.0, collection.chunk_size * TERMS_PER_CHUNK_CHARACTER),
            timeout_s=self._timeout_s,
        )
        pairs: list[tuple[Chunk, TextVectors]] = []
        for piece, found in zip(chunks, vectors, strict=True):
            smaller = _halves(piece) if found.truncated and splits_left else []
            if len(smaller) > 1:
                pairs += await self._vectors(collection, title, smaller, splits_left=splits_left - 1)
            else:
                pairs.append((piece, found))
        return pairs

    async def _settle(self, intent: Intent) -> None:
        """Undo or sweep; if a store is down, leave it to `recover`."""
        try:
            await self._undo_or_sweep(intent)
        except GannetError as error:
            _log.warning("left for recovery", document=str(intent.document), reason=error.reason, message=error.message)

    async def _undo_or_sweep(self, intent: Intent) -> None:
        """Remove what is not the live revision, then release the claim."""
        name = intent.document
        live = await self._ledger.find_document(name)
        try:
            collection = await self._ledger.collection_settings(name.parent)
        except NotFound:
            return  # the collection is being deleted, and its claims go with it
        live_revision = 0 if live is None else live.revision
        await self._index.delete_other_revisions(_qdrant(collection), name, live_revision)
        await self._blobs.delete_others(name, live_revision)
        await self._ledger.end_intent(name)

    async def _erase(self, name: CollectionName, model: str, digest: str) -> None:
        await self._index.delete_collection(qdrant_collection(model, digest), name)
        await self._blobs.delete_collection(name)
        await self._ledger.finish_delete_collection(name)


def _qdrant(collection: Collection) -> str:
    return qdrant_collection(collection.embedding_model, collection.embedding_model_digest)


def _fingerprint(collection: Collection, upload: Upload) -> str:
    settings = [
        PIPELINE_REVISION,
        collection.embedding_model_digest,
        collection.chunk_size,
        collection.chunk_overlap,
        collection.language,
    ]
    parts = json.dumps([settings, upload.mime_type, upload.title, dict(upload.metadata)], sort_keys=True)
    return hashlib.sha256(parts.encode() + b"\x00" + hashlib.sha256(upload.content).digest()).hexdigest()


def _passage_title(title: str, heading: str) -> str:
    return f"{title} › {heading}" if title and heading and heading != title else title or heading


def _halves(piece: Chunk) -> list[Chunk]:
    """A passage in two or more, their offsets in the document's text."""
    parts = chunk(piece.text, size=max(1, (len(piece.text) + 1) // 2), overlap=0)
    return [
        Chunk(
            text=part.text,
            start_byte=piece.start_byte + part.start_byte,
            end_byte=piece.start_byte + part.end_byte,
            heading=part.heading or piece.heading,
        )
        for part in parts
    ]
