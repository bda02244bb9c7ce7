"""What a blob store does: bytes by key, whole or not at all, in a directory or in a bucket."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A blob in a list; `modified_at_s` is Unix time."""

    key: str
    size: int
    modified_at_s: float


class BlobWriter(Protocol):
    """A blob that is being written; nobody sees it before `finish` has returned."""

    async def write(self, piece: bytes) -> None:
        """Append; raises DependencyUnavailable."""
        ...

    async def finish(self) -> None:
        """Make the blob durable and visible; raises DependencyUnavailable."""
        ...

    async def discard(self) -> None:
        """Leave nothing of it; no error if that fails, or after `finish`."""
        ...


class BlobStore(Protocol):
    """Keys are paths with "/" between their parts. A store that does not answer is a DependencyUnavailable."""

    async def put(self, key: str, content: bytes) -> None:
        """Store a blob, in place of an existing one; it is durable when this returns."""
        ...

    def writer(self, key: str) -> BlobWriter:
        """Begin a blob that is written piece by piece, in bounded memory."""
        ...

    async def read(self, key: str, start: int, end: int) -> bytes:
        """Bytes `start` to `end`, both inside the blob; raises FileNotFoundError if there is none."""
        ...

    async def delete(self, key: str) -> None:
        """Remove a blob; none is no error."""
        ...

    async def delete_folder(self, prefix: str) -> None:
        """Remove every blob whose key is `prefix` and more parts."""
        ...

    def list_folder(self, prefix: str) -> AsyncIterator[Stored]:
        """Every blob whose key is `prefix` and more parts."""
        ...

    async def probe(self) -> None:
        """Raises if the store does not answer."""
        ...
