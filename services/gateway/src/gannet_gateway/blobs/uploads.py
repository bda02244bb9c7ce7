"""Uploads on their way into the blob store, and back out of it, a piece at a time."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import Any

import structlog

from gannet_gateway.blobs.blobs import Blobs
from gannet_gateway.blobs.store import BlobWriter
from gannet_gateway.names import CollectionName
from gannet_gateway.parsing.parser import Held
from gannet_service.errors import GannetError, InternalError, NotFound

# Held before anything is written: a smaller upload is stored by a single call, once it is known to be good.
HELD_BYTES_MAX = 256 << 10
READ_BYTES = 256 << 10

_log: structlog.stdlib.BoundLogger = structlog.get_logger("uploads")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredUpload:
    """An upload that is in the blob store, whole; `sha256` is the digest of what arrived."""

    blobs: Blobs
    key: str
    size: int
    sha256: bytes

    async def pieces(self) -> AsyncIterator[bytes]:
        """Its bytes in order, READ_BYTES of them at most at once; may be asked for again.

        Raises:
            NotFound: it was erased, reason UPLOAD_GONE.
            InternalError: what is stored is not what arrived, reason UPLOAD_DAMAGED.
            DependencyUnavailable: the store does not answer.
        """
        digest = hashlib.sha256()
        async for piece in read_pieces(self.blobs, self.key, self.size):
            digest.update(piece)
            yield piece
        if digest.digest() != self.sha256:
            raise InternalError("the stored upload is not what arrived", reason="UPLOAD_DAMAGED")


async def read_pieces(blobs: Blobs, key: str, size: int) -> AsyncIterator[bytes]:
    """The bytes of an upload of this size, whatever they are; raises as `StoredUpload.pieces` does."""
    at = 0
    while at < size:
        try:
            piece = await blobs.read_upload(key, at, min(at + READ_BYTES, size))
        except FileNotFoundError as error:
            raise NotFound("the upload was erased", reason="UPLOAD_GONE") from error
        if not piece:
            raise InternalError(f"the stored upload ends at byte {at} of {size}", reason="UPLOAD_DAMAGED")
        at += len(piece)
        yield piece


class IncomingUpload:
    """An upload whose bytes are arriving. One task at a time uses it; `discard` it unless its content became somebody else's."""

    def __init__(self, blobs: Blobs, collection: CollectionName) -> None:
        self._blobs = blobs
        self._collection = collection
        self._digest = hashlib.sha256()
        self._held = bytearray()
        self._key = ""
        self._writer: BlobWriter | None = None
        self._working: asyncio.Task[None] | None = None
        self.size = 0

    @property
    def sha256(self) -> bytes:
        """The digest of what has arrived."""
        return self._digest.digest()

    async def write(self, piece: bytes) -> None:
        """Take the next bytes; returns when at most HELD_BYTES_MAX of all are not with the store. Raises what a BlobWriter does."""
        self._digest.update(piece)
        self.size += len(piece)
        self._held += piece
        if len(self._held) > HELD_BYTES_MAX:
            await self._flush()

    async def finish(self) -> Held | StoredUpload:
        """The whole content: as it is if it is small, and nothing of it stored; else in the store, durable."""
        if self._writer is None:
            # Documents wait for their jobs long after this; they hold no bytes.
            held, self._held = bytes(self._held), bytearray()
            return Held(held)
        if self._held:
            await self._flush()
        await self._work(self._writer.finish())
        return StoredUpload(blobs=self._blobs, key=self._key, size=self.size, sha256=self.sha256)

    async def discard(self) -> None:
        """Leave nothing of it. What a store that does not answer keeps is swept with the stray uploads."""
        self._held.clear()
        if self._writer is None:
            return
        if self._working is not None:  # a thread may be at it still
            await asyncio.wait([self._working])
        writer, self._writer = self._writer, None
        try:
            await writer.discard()
            await self._blobs.delete_upload(self._key)
        except (GannetError, OSError) as error:
            _log.warning("upload left for the sweep", key=self._key, error=str(error))

    async def _flush(self) -> None:
        if self._writer is None:
            self._key, self._writer = self._blobs.new_upload(self._collection)
        held, self._held = bytes(self._held), bytearray()
        await self._work(self._writer.write(held))

    async def _work(self, operation: Coroutine[Any, Any, None]) -> None:
        # To be cut off in the middle of a write would leave a file behind that nobody knows of: `discard` waits for its end.
        self._working = asyncio.ensure_future(operation)
        await asyncio.shield(self._working)
