"""The files of a source: found in a directory or fetched from an address."""

import asyncio
import fnmatch
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx

from gannet_gateway.ledger.sources import Source
from gannet_gateway.parsing.formats import PLAIN, SUFFIXES
from gannet_gateway.parsing.parser import check_mime_type
from gannet_gateway.sources.places import Places
from gannet_service.errors import GannetError, InvalidInput

FILES_MAX = 100_000
OK = 200
GONE = frozenset({404, 410})


class Unreachable(Exception):
    """The place cannot be read as a whole; the message says why."""


class BrokenFile(Exception):
    """One file cannot be read; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file; `read` blocks, gives its content and raises BrokenFile."""

    path: str
    mime_type: str
    read: Callable[[], bytes]


class Files:
    """Finds and fetches; `bytes_max` bounds a file, `timeout_s` a request."""

    def __init__(self, places: Places, client: httpx.AsyncClient, *, bytes_max: int, timeout_s: float) -> None:
        self._places = places
        self._client = client
        self._bytes_max = bytes_max
        self._timeout_s = timeout_s

    async def find(self, source: Source) -> list[SourceFile]:
        """All files that are there now; of an address that is gone, none.

        Raises:
            Unreachable: the place is closed, missing, without any file or does not answer.
        """
        try:
            if source.url:
                return await self._fetched(self._places.check_url(source.url, source.name.tenant))
            root = self._places.check_directory(source.directory, source.name.tenant)
        except GannetError as error:
            raise Unreachable(error.message) from error
        return await asyncio.to_thread(self._found, root, source.include)

    def _found(self, root: Path, include: tuple[str, ...]) -> list[SourceFile]:
        if not root.is_dir():
            raise Unreachable(f"{root} is not a directory here")
        files: list[SourceFile] = []
        for file in _walk(root):
            path = file.relative_to(root).as_posix()
            suffix = file.suffix.lower()
            wanted = any(fnmatch.fnmatchcase(path, each) for each in include) if include else suffix in SUFFIXES
            if not wanted:
                continue
            if len(files) == FILES_MAX:
                raise Unreachable(f"more than {FILES_MAX} files; include fewer, or make several sources")
            files.append(SourceFile(path=path, mime_type=SUFFIXES.get(suffix, PLAIN), read=self._reader(file)))
        if not files:
            raise Unreachable(f"{root} has no file that is included: is it mounted?")
        return files

    def _reader(self, file: Path) -> Callable[[], bytes]:
        return lambda: _content(file, self._bytes_max)

    async def _fetched(self, url: str) -> list[SourceFile]:
        try:
            async with asyncio.timeout(self._timeout_s), self._client.stream("GET", url) as response:
                if response.status_code in GONE:
                    return []
                if response.status_code != OK:
                    raise Unreachable(f"{url} answers with status {response.status_code}")
                content = bytearray()
                async for piece in response.aiter_bytes():
                    content += piece
                    if len(content) > self._bytes_max:
                        raise Unreachable(f"{url} is larger than document_bytes_max = {self._bytes_max} bytes")
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise Unreachable(f"{url} does not answer within {self._timeout_s:g} s, or not in HTTP") from error
        path = unquote(f"{urlsplit(url).netloc}{urlsplit(url).path}").rstrip("/")
        whole = bytes(content)
        return [SourceFile(path=path, mime_type=_mime_type(response, path), read=lambda: whole)]


def _mime_type(response: httpx.Response, path: str) -> str:
    try:
        return check_mime_type(response.headers.get("content-type", "application/octet-stream"))
    except InvalidInput:
        return SUFFIXES.get(Path(path).suffix.lower(), PLAIN)


def _walk(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(folder) / name
            if not name.startswith(".") and not file.is_symlink():
                yield file


def _content(file: Path, bytes_max: int) -> bytes:
    try:
        # No links: one could lead out of the place. No waiting: a pipe would never end.
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as opened:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise BrokenFile("not a regular file")
            content = opened.read(bytes_max + 1)
    except OSError as error:
        raise BrokenFile(error.strerror or str(error)) from error
    if len(content) > bytes_max:
        raise BrokenFile(f"larger than document_bytes_max = {bytes_max} bytes")
    return content
