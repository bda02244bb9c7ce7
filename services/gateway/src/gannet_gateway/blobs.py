"""The documents' texts, in a directory: one file a revision, written whole or not at all."""

import asyncio
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from gannet_gateway.names import CollectionName, DocumentName


class Blobs:
    """Texts by document and attempt. A text is durable when `put` returns."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)

    async def put(self, name: DocumentName, attempt: str, text: bytes) -> None:
        """Store the text of an attempt; an existing one is replaced."""
        await asyncio.to_thread(self._put, self._path(name, attempt), text)

    async def read(self, name: DocumentName, attempt: str, start: int, end: int) -> bytes:
        """Bytes `start` to `end` of an attempt's text; raises FileNotFoundError if there is none."""
        return await asyncio.to_thread(_read_range, self._path(name, attempt), start, end)

    async def delete(self, name: DocumentName, attempt: str) -> None:
        """Remove the text of an attempt; none is no error."""
        await asyncio.to_thread(self._path(name, attempt).unlink, missing_ok=True)

    async def delete_document(self, name: DocumentName) -> None:
        """Remove every text of a document."""
        await asyncio.to_thread(_delete_all, self._path(name, "any"))

    async def delete_collection(self, name: CollectionName) -> None:
        """Remove all texts of a collection."""
        await asyncio.to_thread(shutil.rmtree, self._folder(name), ignore_errors=True)

    def _folder(self, name: CollectionName) -> Path:
        return self._root / name.tenant / name.collection

    def _path(self, name: DocumentName, attempt: str) -> Path:
        # Ids may be longer than file names and differ only in case: the digest is what file systems agree on.
        digest = hashlib.sha256(name.document.encode()).hexdigest()
        return self._folder(name.parent) / digest[:2] / f"{digest[2:]}.{attempt}"

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
