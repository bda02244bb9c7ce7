"""The documents' texts, and uploads that are not texts yet, over a blob store."""

import hashlib
import uuid
from collections.abc import AsyncIterator

from gannet_gateway.blobs.store import BlobStore, BlobWriter
from gannet_gateway.names import CollectionName, DocumentName

# No tenant's name begins with a dot.
UPLOADS = ".uploads"


class Blobs:
    """Texts by document and attempt, uploads by key. What is stored is durable when the call returns."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self.probe = store.probe

    async def put(self, name: DocumentName, attempt: str, text: bytes) -> None:
        """Store the text of an attempt; an existing one is replaced."""
        await self._store.put(_key(name, attempt), text)

    async def read(self, name: DocumentName, attempt: str, start: int, end: int) -> bytes:
        """Bytes `start` to `end` of an attempt's text; raises FileNotFoundError if there is none."""
        return await self._store.read(_key(name, attempt), start, end)

    async def delete(self, name: DocumentName, attempt: str) -> None:
        """Remove the text of an attempt; none is no error."""
        await self._store.delete(_key(name, attempt))

    async def delete_document(self, name: DocumentName) -> None:
        """Remove every text of a document."""
        every = _key(name, "")
        async for stored in self._store.list_folder(every.rpartition("/")[0]):
            if stored.key.startswith(every):
                await self._store.delete(stored.key)

    async def delete_collection(self, name: CollectionName) -> None:
        """Remove all texts of a collection, and the uploads into it."""
        await self._store.delete_folder(_folder(name))
        await self._store.delete_folder(f"{UPLOADS}/{_folder(name)}")

    # ---- uploads ------------------------------------------------------------------------------------------------

    def new_upload(self, name: CollectionName) -> tuple[str, BlobWriter]:
        """A key for an upload into a collection, and what writes it."""
        key = f"{UPLOADS}/{_folder(name)}/{uuid.uuid4().hex}"
        return key, self._store.writer(key)

    async def put_upload(self, name: CollectionName, content: bytes) -> str:
        """Store an upload that is in memory; its key."""
        key = f"{UPLOADS}/{_folder(name)}/{uuid.uuid4().hex}"
        await self._store.put(key, content)
        return key

    async def read_upload(self, key: str, start: int, end: int) -> bytes:
        """Bytes `start` to `end` of an upload; raises FileNotFoundError if there is none."""
        return await self._store.read(key, start, end)

    async def delete_upload(self, key: str) -> None:
        """Remove an upload; none is no error."""
        await self._store.delete(key)

    async def uploads_before(self, time_s: float) -> AsyncIterator[str]:
        """Keys of uploads, whole or half written, that nobody has touched since this Unix time."""
        async for stored in self._store.list_folder(UPLOADS):
            if stored.modified_at_s < time_s:
                yield stored.key


def _folder(name: CollectionName) -> str:
    return f"{name.tenant}/{name.collection}"


def _key(name: DocumentName, attempt: str) -> str:
    # Ids may be longer than file names and differ only in case: the digest is what file systems agree on.
    digest = hashlib.sha256(name.document.encode()).hexdigest()
    return f"{_folder(name.parent)}/{digest[:2]}/{digest[2:]}.{attempt}"
