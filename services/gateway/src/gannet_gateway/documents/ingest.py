"""One document from bytes to searchable passages, or not at all.

Order: claim the document in the ledger, store its text, embed and stage its passages, which nobody sees yet, and hand them to the
publisher, which shows them with a new generation. Whatever fails before the publish is undone; whatever fails within it is finished.
`recover` does both for processes that are gone, at start-up and now and then. A document that was acknowledged is durable in all three
stores.
"""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, replace

import structlog

from gannet_gateway.blobs.blobs import Blobs
from gannet_gateway.blobs.uploads import StoredUpload
from gannet_gateway.documents.chunking import first_heading
from gannet_gateway.documents.passages import Passages
from gannet_gateway.documents.publisher import Publisher
from gannet_gateway.ledger.claiming import Claimed
from gannet_gateway.ledger.job import JobState, Progress
from gannet_gateway.ledger.journal import Journal
from gannet_gateway.ledger.ledger import Ledger
from gannet_gateway.ledger.records import Change, Claim, Collection, Document, MetadataValue, Purpose
from gannet_gateway.names import CollectionName, DocumentName
from gannet_gateway.parsing.parser import Held, Parser
from gannet_gateway.threads import for_length
from gannet_gateway.vectors.index import Index
from gannet_gateway.vectors.points import qdrant_collection
from gannet_service.errors import AlreadyExists, DeadlineTooShort, GannetError, NotFound

# Part of every fingerprint: documents are indexed again when passages would be cut or weighed in another way.
PIPELINE_REVISION = 2
TITLE_CHARACTERS_MAX = 200
CLAIM_POLL_S = 0.05

_log: structlog.stdlib.BoundLogger = structlog.get_logger("ingest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A document as it arrived, its fields checked."""

    name: DocumentName
    content: Held | StoredUpload
    mime_type: str
    title: str
    metadata: Mapping[str, MetadataValue]
    readers: tuple[str, ...] = ()
    language: str = ""
    create_only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexed:
    """What became of an upload."""

    document: Document
    unchanged: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """Where documents are kept."""

    ledger: Ledger
    journal: Journal
    blobs: Blobs
    index: Index


class Ingester:
    """Indexes, rolls back, deletes and erases, and tidies up after crashes. `timeout_s` bounds the work on one document."""

    def __init__(
        self, stores: Stores, parser: Parser, passages: Passages, publisher: Publisher, *, timeout_s: float
    ) -> None:
        self._ledger = stores.ledger
        self._journal = stores.journal
        self._blobs = stores.blobs
        self._index = stores.index
        self._parser = parser
        self._passages = passages
        self._publisher = publisher
        self._timeout_s = timeout_s
        # Holders of the claims and erasures in work here, for whoever renews leases.
        self.holders: set[str] = set()

    async def index(
        self, collection: Collection, upload: Upload, *, job: str = "", progress: Progress | None = None
    ) -> Indexed:
        """Store `upload` as the live revision of its document, and return when readers see it.

        The publish that shows it ends `job`, unless nothing has changed. `progress` is written to as the work goes on.

        Raises:
            GannetError: nothing of the upload is kept, and what was stored before is unchanged. Reason PUBLISH_PENDING: it is stored,
                and is shown when the stores answer again.
        """
        progress = progress or Progress()
        live = await self._ledger.find_document(upload.name)
        if live is not None and upload.create_only:
            raise AlreadyExists(f"{upload.name} exists already", field="document_id")
        fingerprint = _fingerprint(collection, upload)
        if live is not None and live.fingerprint == fingerprint:
            return Indexed(document=live, unchanged=True)
        text = await self._parser.text(upload.content, upload.mime_type)
        title = upload.title or await for_length(len(text), first_heading, text)
        if upload.language not in ("", *collection.languages):
            # Before any reader can see the document: queries are analysed in its language from here on.
            collection = await self._ledger.add_language(collection.name, upload.language)
        async with self._claimed(upload.name, Purpose.WRITE, create_only=upload.create_only, job=job) as claim:
            if claim.live is not None and claim.live.fingerprint == fingerprint:  # written while we waited for our turn
                await self._journal.release(claim)
                return Indexed(document=claim.live, unchanged=True)
            document = Document(
                name=upload.name,
                revision=claim.revision,
                attempt=claim.attempt,
                title=title[:TITLE_CHARACTERS_MAX],
                mime_type=upload.mime_type,
                metadata=upload.metadata,
                readers=upload.readers,
                language="" if upload.language == collection.language else upload.language,
                text_bytes=0,
                chunk_count=0,
                content_sha256=upload.content.sha256.hex(),
                fingerprint=fingerprint,
                created_at_s=claim.live.created_at_s if claim.live else 0.0,
                updated_at_s=0.0,
            )
            return Indexed(document=await self._replace(collection, claim, document, text, progress), unchanged=False)

    async def rollback(self, collection: Collection, name: DocumentName, revision: int, etag: str) -> Document:
        """Publish an earlier revision's text, title and metadata as a new revision; the live one is returned as it is.

        Raises:
            NotFound: there is no such revision, or it is not kept any more.
            Conflict: the document's etag is another.
        """
        async with self._claimed(name, Purpose.WRITE, etag=etag) as claim:
            old = await self._ledger.revision(name, revision)
            if claim.live is not None and claim.live.revision == revision:
                await self._journal.release(claim)
                return claim.live
            try:
                text = await self._blobs.read(name, old.text_key, 0, old.text_bytes)
            except FileNotFoundError as error:
                raise NotFound(f"{name} revision {revision} is not kept any more", field="revision") from error
            # An earlier text comes back; who had lost their access does not.
            readers = claim.live.readers if claim.live else old.readers
            new = replace(old, revision=claim.revision, attempt=claim.attempt, collected=False, readers=readers)
            return await self._replace(collection, claim, new, text.decode(), Progress())

    async def delete(self, collection: Collection, name: DocumentName, etag: str) -> int:
        """Publish a generation without the document and return it; raises NotFound, Conflict."""
        async with self._claimed(name, Purpose.DELETE, etag=etag) as claim:
            return await self._publisher.publish(collection, Change(claim=claim, document=None))

    async def purge(self, collection: Collection, name: DocumentName) -> bool:
        """Erase a document from every generation, with its passages, texts and revisions; False if there is nothing of it."""
        try:
            async with self._claimed(name, Purpose.PURGE) as claim:
                await self._erase_document(collection, claim)
        except NotFound:
            return False
        return True

    async def delete_collection(self, name: CollectionName) -> None:
        """Remove a collection and all in it; raises NotFound, Conflict (a document of it is being written)."""
        collection = await self._ledger.collection_settings(name)
        # Claims that a failed undo left behind are no writers; what is left after this is at work.
        await self._settle_expired(name)
        await self._journal.begin_delete_collection(name)
        await self._erase(name, collection.embedding_model, collection.embedding_model_digest)

    async def recover(self) -> None:
        """Finish or undo what a crash or a lost dependency interrupted.

        Raises:
            GannetError: a store does not answer; try again later.
        """
        for name, model, digest in await self._journal.collections_being_deleted():
            await self._erase(name, model, digest)
        for name in await self._journal.expired_publishes():
            with contextlib.suppress(NotFound):  # the collection is being deleted
                await self._publisher.roll_forward(await self._ledger.collection_settings(name))
        await self._settle_expired()

    async def _settle_expired(self, collection: CollectionName | None = None) -> None:
        """Undo, or finish, what is left of writers that are gone, of one collection or of all."""
        for name in await self._journal.expired_claims(collection):
            claim = await self._journal.take_over(name)
            if claim is not None:
                await self._settle(claim)

    @contextlib.asynccontextmanager
    async def _claimed(
        self, name: DocumentName, purpose: Purpose, *, create_only: bool = False, etag: str = "", job: str = ""
    ) -> AsyncGenerator[Claim]:
        """Wait for the document's turn and hold it; what the block leaves unpublished is undone.

        A client whose stream broke sends its documents again while the broken stream's are still being undone.
        """
        claim: Claim | None = None
        try:
            async with asyncio.timeout(self._timeout_s):
                claim = await self._wait_for_claim(name, purpose, create_only=create_only, etag=etag, job=job)
                self.holders.add(claim.holder)
                yield claim
        except BaseException as error:
            undone = claim is None or await asyncio.shield(self._take_back(claim))
            if isinstance(error, TimeoutError):
                problem = f"{name} took longer than ingest_timeout_s = {self._timeout_s:g} seconds"
                raise DeadlineTooShort(problem, reason=None if undone else "PUBLISH_PENDING") from error
            raise
        finally:
            if claim is not None:
                self.holders.discard(claim.holder)

    async def _wait_for_claim(
        self, name: DocumentName, purpose: Purpose, *, create_only: bool, etag: str, job: str
    ) -> Claim:
        while True:
            try:
                return await self._journal.claim(name, purpose, create_only=create_only, etag=etag, job=job)
            except Claimed:
                left_behind = await self._journal.take_over(name)
                if left_behind is not None:
                    await self._settle(left_behind)
                    continue
                with contextlib.suppress(NotFound):
                    await self._publisher.roll_forward(await self._ledger.collection_settings(name.parent))
                await asyncio.sleep(CLAIM_POLL_S)

    async def _replace(
        self, collection: Collection, claim: Claim, document: Document, text: str, progress: Progress
    ) -> Document:
        encoded = text.encode()
        await self._blobs.put(claim.document, claim.attempt, encoded)
        # BM25's terms of another language are no use, though the text be the same.
        reusing = claim.live is not None and claim.live.language == document.language
        points = await self._passages.make(
            replace(collection, language=document.language or collection.language),
            claim if reusing else replace(claim, live=None),
            text,
            title=document.title,
            metadata=document.metadata,
            readers=document.readers,
            progress=progress,
        )
        progress.state = JobState.STORING
        await self._index.upsert(_qdrant(collection), points)
        progress.state = JobState.PUBLISHING
        document = replace(document, text_bytes=len(encoded), chunk_count=len(points))
        generation = await self._publisher.publish(collection, Change(claim=claim, document=document))
        return replace(document, gen_from=generation)

    async def _take_back(self, claim: Claim) -> bool:
        """Undo what is not published, at the latest by `recover`; False if it is published, or another gateway's to undo."""
        try:
            taken = await self._journal.take_over(claim.document, holder=claim.holder)
            if taken is None:
                return False
            await self._settle(taken)
        except GannetError as error:
            _log.warning("left for recovery", document=str(claim.document), reason=error.reason, message=error.message)
        return True

    async def _settle(self, claim: Claim) -> None:
        """Remove what is staged under a claim that was taken over and release it; an erasure is finished."""
        async with self._finishing(claim.holder):
            with contextlib.suppress(NotFound):  # the collection is being deleted, and its claims go with it
                collection = await self._ledger.collection_settings(claim.document.parent)
                if claim.purpose is Purpose.PURGE:
                    await self._erase_document(collection, claim)
                    return
                await self._index.delete_staged(_qdrant(collection), claim)
                await self._blobs.delete(claim.document, claim.attempt)
                await self._journal.release(claim)

    async def _erase_document(self, collection: Collection, claim: Claim) -> None:
        await self._index.delete_document(_qdrant(collection), claim.document)
        await self._blobs.delete_document(claim.document)
        # Last: a search that read the new epoch cannot have seen what was erased.
        await self._journal.finish_purge(claim)

    async def _erase(self, name: CollectionName, model: str, digest: str) -> None:
        holder = await self._journal.begin_erase(name)
        if holder is None:
            return
        async with self._finishing(holder):
            await self._index.delete_collection(qdrant_collection(model, digest), name)
            await self._blobs.delete_collection(name)
            await self._journal.finish_delete_collection(name)

    @contextlib.asynccontextmanager
    async def _finishing(self, holder: str) -> AsyncGenerator[None]:
        """Renews what `holder` has claimed; where the block does not come to its end, another gateway may finish at once."""
        self.holders.add(holder)
        is_finished = False
        try:
            yield
            is_finished = True
        finally:
            try:
                if not is_finished:
                    await self._journal.abandon([holder])
            finally:
                self.holders.discard(holder)


def _qdrant(collection: Collection) -> str:
    return qdrant_collection(collection.embedding_model, collection.embedding_model_digest)


def _fingerprint(collection: Collection, upload: Upload) -> str:
    settings = [
        PIPELINE_REVISION,
        collection.embedding_model_digest,
        collection.chunk_size,
        collection.chunk_overlap,
        upload.language or collection.language,
    ]
    stored = [settings, upload.mime_type, upload.title, dict(upload.metadata)]
    parts = json.dumps([*stored, upload.readers] if upload.readers else stored, sort_keys=True)
    return hashlib.sha256(parts.encode() + b"\x00" + upload.content.sha256).hexdigest()
