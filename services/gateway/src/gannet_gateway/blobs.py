"""The documents' texts, in a directory: one file a revision, written whole or not at all."""

import asyncio
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from gannet_gateway.names import CollectionName, DocumentName


class Blobs:
    """Texts by document and revision. A text is durable when `put` returns."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)

    async def put(self, name: DocumentName, revision: int, text: bytes) -> None:
        """Store the text of a revision; an existing one is replaced."""
        await asyncio.to_thread(self._put, self._path(name, revision), text)

    async def read(self, name: DocumentName, revision: int, start: int, end: int) -> bytes:
        """Bytes `start` to `end` of a revision's text; raises FileNotFoundError if there is none."""
        return await asyncio.to_thread(_read_range, self._path(name, revision), start, end)

    async def delete_others(self, name: DocumentName, live_revision: int) -> None:
        """Remove the texts of every revision but the live one; 0 removes all."""
        await asyncio.to_thread(_delete_others, self._path(name, live_revision))

    async def delete_collection(self, name: CollectionName) -> None:
        """Remove all texts of a collection."""
        await asyncio.to_thread(shutil.rmtree, self._folder(name), ignore_errors=True)

    def _folder(self, name: CollectionName) -> Path:
        return self._root / name.tenant / name.collection

    def _path(self, name: DocumentName, revision: int) -> Path:
        # Ids may be longer than file names and differ only in case: the digest is what file systems agree on.
        digest = hashlib.sha256(name.document.encode()).hexdigest()
        return self._folder(name.parent) / digest[:2] / f"{digest[2:]}.{revision}"

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


def _delete_others(live: Path) -> None:
    for path in live.parent.glob(f"{live.stem}.*"):
        if path != live:
            path.unlink(missing_ok=True)


def _read_range(path: Path, start: int, end: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(end - start)
