"""The key of an upstream, from a file that may change while the server runs."""

import os
from pathlib import Path

import structlog

_log: structlog.stdlib.BoundLogger = structlog.get_logger("upstream")

# What a server without keys is sent: the client insists on having one.
NO_KEY = "none"


class KeyFile:
    """Reads the key again when the file changes; a file that cannot be read then leaves the last key in force."""

    def __init__(self, path: Path | None) -> None:
        """Reads the file; without a path the key is `NO_KEY`.

        Raises:
            OSError: the file cannot be read.
            ValueError: it holds no key.
        """
        self._path = path
        self._version: tuple[int, int, int] | None = None
        self._key = NO_KEY
        if path is not None:
            self._key, self._version = _read(path)

    def current(self) -> str:
        """The key in the file now."""
        if self._path is None:
            return self._key
        try:
            if _version(self._path.stat()) != self._version:
                self._key, self._version = _read(self._path)
                _log.info("key read again", file=str(self._path))
        except (OSError, ValueError) as error:
            _log.warning("key file cannot be read, the last key stays", file=str(self._path), error=str(error))
        return self._key


def _read(path: Path) -> tuple[str, tuple[int, int, int]]:
    with path.open(encoding="utf-8") as file:
        # The open file's own version: one that is replaced in the meantime is read again next time.
        version = _version(os.fstat(file.fileno()))
        key = file.read(65_536).strip()
    if not key or not key.isascii() or not key.isprintable():
        raise ValueError(f"{path}: no key, a key is one line of printable ASCII")
    return key, version


def _version(stat: os.stat_result) -> tuple[int, int, int]:
    """What changes when a file is rewritten or replaced."""
    return stat.st_mtime_ns, stat.st_ino, stat.st_size
