"""Blobs in a directory: one file each, written whole or not at all, fsynced before anybody is told of it.

`obstore` has a directory too, and does not fsync it.
"""

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

from gannet_gateway.blobs.store import Stored


class DirectoryStore:
    """See BlobStore. `root` is made if it is missing; gateways that share a ledger share it, too."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)

    async def put(self, key: str, content: bytes) -> None:
        """See BlobStore."""
        await asyncio.to_thread(_put, self._root / key, content)

    def writer(self, key: str) -> "FileWriter":
        """See BlobStore."""
        return FileWriter(self._root / key)

    async def read(self, key: str, start: int, end: int) -> bytes:
        """See BlobStore."""
        return await asyncio.to_thread(_read_range, self._root / key, start, end)

    async def delete(self, key: str) -> None:
        """See BlobStore."""
        await asyncio.to_thread((self._root / key).unlink, missing_ok=True)

    async def delete_folder(self, prefix: str) -> None:
        """See BlobStore."""
        await asyncio.to_thread(shutil.rmtree, self._root / prefix, ignore_errors=True)

    async def list_folder(self, prefix: str) -> AsyncIterator[Stored]:
        """See BlobStore; what a crash left half written is listed as well, under a name of its own."""
        for stored in await asyncio.to_thread(_listed, self._root, self._root / prefix):
            yield stored

    async def probe(self) -> None:
        """See BlobStore."""
        await asyncio.to_thread(self._root.stat)


class FileWriter:
    """See BlobWriter."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    async def write(self, piece: bytes) -> None:
        """See BlobWriter."""
        if self._file is None:
            self._file = await asyncio.to_thread(_temporary, self._path)
        await asyncio.to_thread(self._file.write, piece)

    async def finish(self) -> None:
        """See BlobWriter."""
        if self._file is None:
            self._file = await asyncio.to_thread(_temporary, self._path)
        file, self._file = self._file, None
        await asyncio.to_thread(_put_in_place, file, self._path)

    async def discard(self) -> None:
        """See BlobWriter."""
        if self._file is not None:
            file, self._file = self._file, None
            await asyncio.to_thread(_throw_away, file)


def _put(path: Path, content: bytes) -> None:
    with contextlib.ExitStack() as undo:
        file = _temporary(path)
        undo.callback(_throw_away, file)
        file.write(content)
        undo.pop_all()
    _put_in_place(file, path)


def _temporary(path: Path) -> IO[bytes]:
    """A new file beside `path`, the folders above durable: a new folder's name is once the folder above it is."""
    missing = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    for folder in {new.parent for new in missing}:
        _fsync_folder(folder)
    return tempfile.NamedTemporaryFile(dir=path.parent, prefix=".tmp-", delete=False)


def _put_in_place(file: IO[bytes], path: Path) -> None:
    try:
        with file:
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(path)
    finally:
        Path(file.name).unlink(missing_ok=True)  # still there only if it was not put in place
    _fsync_folder(path.parent)


def _throw_away(file: IO[bytes]) -> None:
    with contextlib.suppress(OSError):
        file.close()
    with contextlib.suppress(OSError):
        Path(file.name).unlink(missing_ok=True)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_range(path: Path, start: int, end: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(end - start)


def _listed(root: Path, folder: Path) -> list[Stored]:
    found: list[Stored] = []
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # gone since
            status = path.stat()
            if path.is_file():
                key = path.relative_to(root).as_posix()
                found.append(Stored(key=key, size=status.st_size, modified_at_s=status.st_mtime))
    return found
