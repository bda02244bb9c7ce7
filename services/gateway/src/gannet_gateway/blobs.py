"""The documents' texts, in a directory: one file a revision, written whole or not at all."""

import asyncio
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from gannet_gateway.names import CollectionName, DocumentName


class Blobs:
    """Texts by document, revision and attempt. A text is durable when `put` returns."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)

    async def put(self, name: DocumentName, revision: int, attempt: str, text: bytes) -> None:
        """Store the text of a revision; an existing one is replaced."""
        await asyncio.to_thread(self._put, self._path(name, revision, attempt), text)

    async def read(self, name: DocumentName, revision: int, attempt: str, start: int, end: int) -> bytes:
        """Bytes `start` to `end` of a revision's text; raises FileNotFoundError if there is none."""
        return await asyncio.to_thread(_read_range, self._path(name, revision, attempt), start, end)

    async def delete(self, name: DocumentName, revision: int, attempt: str) -> None:
        """Remove the text of a revision; none is no error."""
        await asyncio.to_thread(self._path(name, revision, attempt).unlink, missing_ok=True)

    async def delete_document(self, name: DocumentName) -> None:
        """Remove the texts of every revision."""
        await asyncio.to_thread(_delete_all, self._path(name, 0, "0"))

    async def delete_collection(self, name: CollectionName) -> None:
        """Remove all texts of a collection."""
        await asyncio.to_thread(shutil.rmtree, self._folder(name), ignore_errors=True)

    def _folder(self, name: CollectionName) -> Path:
        return self._root / name.tenant / name.collection

    def _path(self, name: DocumentName, revision: int, attempt: str) -> Path:
        # Ids may be longer than file names and differ only in case: the digest is what file systems agree on.
        digest = hashlib.sha256(name.document.encode()).hexdigest()
        # Without an attempt: stored before texts had one.
        version = f"{revision}-{attempt}" if attempt else f"{revision}"
        return self._folder(name.parent) / digest[:2] / f"{digest[2:]}.{version}"

    @staticmethod
    def _put(path: Path, text: bytes) -> None:
        missing = [folder for folder in path.parents if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            try:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(path)
            finally:
                Path(file.name).unlink(missing_ok=True)  # still there only if it was not put in place
        # A name is durable once its folder is; a new folder's name once the folder above is.
        for folder in {path.parent, *(new.parent for new in missing)}:
            _fsync_folder(folder)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _delete_all(one: Path) -> None:
    for path in one.parent.glob(f"{one.stem}.*"):
        path.unlink(missing_ok=True)


def _read_range(path: Path, start: int, end: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(end - start)
