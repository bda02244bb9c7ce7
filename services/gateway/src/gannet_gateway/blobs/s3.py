"""Blobs in an S3-compatible bucket, through `obstore`."""

from __future__ import annotations  # some of obstore's types are in its stubs only

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from datetime import timedelta
from typing import TypeVar
from urllib.parse import urlsplit

import obstore
from obstore import exceptions
from obstore.store import S3Store

from gannet_gateway.blobs.store import Stored
from gannet_service import call
from gannet_service.errors import DependencyUnavailable

# Parts are kept until the bucket has them: two of them a writer.
PARTS_IN_FLIGHT_MAX = 1
RETRIES_MAX = 4
DELETED_AT_ONCE = 500

T = TypeVar("T")


class BucketStore:
    """See BlobStore. What the bucket confirms is durable.

    Args:
        url: `s3://bucket/prefix`.
        endpoint: the server's URL; empty means AWS'. Plain http is taken at its word.
        region: the bucket's.
        credentials: access key id and secret; None leaves it to the standard sources (AWS_* variables, the instance's role).
        timeout_s: most time for one operation, its retries included; the caller's own deadline shortens it.
        part_bytes: what is sent at once of a blob that is written piece by piece, at least 5 MiB, and kept in memory for it.
    """

    def __init__(
        self,
        url: str,
        *,
        endpoint: str,
        region: str,
        credentials: tuple[str, str] | None,
        timeout_s: float,
        part_bytes: int,
    ) -> None:
        parts = urlsplit(url)
        self._timeout_s = timeout_s
        self._part_bytes = part_bytes
        self._url = url
        settings = {"region": region} | ({"endpoint": endpoint} if endpoint else {})
        if credentials is not None:
            settings |= {"access_key_id": credentials[0], "secret_access_key": credentials[1]}
        self._store = S3Store(
            parts.netloc,
            prefix=parts.path.strip("/") or None,
            config=settings,  # pyright: ignore[reportArgumentType] - a dict where the stub has a TypedDict of strings
            client_options={
                "allow_http": endpoint.startswith("http://"),
                "timeout": timedelta(seconds=timeout_s),
                "connect_timeout": timedelta(seconds=min(5.0, timeout_s)),
            },
            retry_config={
                "max_retries": RETRIES_MAX,
                "retry_timeout": timedelta(seconds=timeout_s),
                "backoff": {
                    "init_backoff": timedelta(milliseconds=50),
                    "max_backoff": timedelta(seconds=2),
                    "base": 3,
                },
            },
        )

    async def put(self, key: str, content: bytes) -> None:
        """See BlobStore."""
        await self._do(obstore.put_async(self._store, key, content, use_multipart=False), key, reading=False)

    def writer(self, key: str) -> MultipartWriter:
        """See BlobStore."""
        return MultipartWriter(self, key)

    async def read(self, key: str, start: int, end: int) -> bytes:
        """See BlobStore."""
        if start == end:
            return b""
        found = await self._do(obstore.get_range_async(self._store, key, start=start, end=end), key, reading=True)
        return bytes(found)

    async def delete(self, key: str) -> None:
        """See BlobStore."""
        with contextlib.suppress(FileNotFoundError):
            await self._do(obstore.delete_async(self._store, key), key, reading=True)

    async def delete_folder(self, prefix: str) -> None:
        """See BlobStore."""
        keys: list[str] = []
        async for stored in self.list_folder(prefix):
            keys.append(stored.key)
            if len(keys) == DELETED_AT_ONCE:
                await self._do(obstore.delete_async(self._store, keys), prefix, reading=True)
                keys = []
        if keys:
            await self._do(obstore.delete_async(self._store, keys), prefix, reading=True)

    async def list_folder(self, prefix: str) -> AsyncIterator[Stored]:
        """See BlobStore."""
        batches = aiter(obstore.list(self._store, prefix))
        while (batch := await self._do(anext(batches, None), prefix, reading=True)) is not None:
            for meta in batch:
                yield Stored(key=meta["path"], size=meta["size"], modified_at_s=meta["last_modified"].timestamp())

    async def probe(self) -> None:
        """See BlobStore."""
        with contextlib.suppress(FileNotFoundError):
            await self._do(obstore.head_async(self._store, ".probe"), ".probe", reading=True)

    def open(self, key: str) -> obstore.AsyncWritableFile:
        """A blob in parts."""
        return obstore.open_writer_async(
            self._store, key, buffer_size=self._part_bytes, max_concurrency=PARTS_IN_FLIGHT_MAX
        )

    async def _do(self, operation: Awaitable[T], key: str, *, reading: bool) -> T:
        async with self.answering(key, reading=reading):
            return await operation

    @contextlib.asynccontextmanager
    async def answering(self, key: str, *, reading: bool) -> AsyncGenerator[None]:
        """Bounds an operation in time and turns its failures into ours; `reading`: a missing blob is a FileNotFoundError."""
        try:
            async with asyncio.timeout(call.remaining_s(self._timeout_s)):
                yield
        except (exceptions.BaseError, OSError, TimeoutError) as error:
            # S3 says 404 of a missing bucket as well.
            if isinstance(error, FileNotFoundError) and reading and "NoSuchBucket" not in str(error):
                raise FileNotFoundError(key) from error
            problem = f"{self._url}: {self._problem(error)}"
            raise DependencyUnavailable(problem, reason="BLOB_STORE_UNAVAILABLE") from error

    def _problem(self, error: Exception) -> str:
        if isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError):
            return "the gateway's credentials are refused"
        if "NoSuchBucket" in str(error):
            return "no such bucket"
        return f"no answer within {self._timeout_s:g} s, or an error"


class MultipartWriter:
    """See BlobWriter. What is discarded is completed and deleted: `obstore` cannot abort, and parts without end would stay and cost."""

    def __init__(self, store: BucketStore, key: str) -> None:
        self._store = store
        self._key = key
        self._file: obstore.AsyncWritableFile | None = None

    async def write(self, piece: bytes) -> None:
        """See BlobWriter."""
        async with self._store.answering(self._key, reading=False):
            if self._file is None:
                self._file = self._store.open(self._key)
            await self._file.write(piece)

    async def finish(self) -> None:
        """See BlobWriter."""
        if self._file is None:
            await self._store.put(self._key, b"")
            return
        async with self._store.answering(self._key, reading=False):
            await self._file.close()
        self._file = None

    async def discard(self) -> None:
        """See BlobWriter."""
        if self._file is None:
            return
        with contextlib.suppress(DependencyUnavailable):
            await self.finish()
            await self._store.delete(self._key)
