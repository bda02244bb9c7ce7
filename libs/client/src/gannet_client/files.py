"""Documents on disk: found in folders, checked and read."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FILES_MAX = 100_000
FILE_BYTES_MAX = 64 << 20
MIME_TYPES = {
    ".md": "text/markdown",
    ".rst": "text/x-rst",
    ".txt": "text/plain",
    ".html": "text/html",
    ".htm": "text/html",
    ".pdf": "application/pdf",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".jsonl": "application/jsonl",
    ".csv": "text/csv",
}
BINARY = frozenset({MIME_TYPES[".pdf"], MIME_TYPES[".docx"]})


class TooManyFiles(Exception):
    """More files than one run takes."""


class BrokenFile(Exception):
    """A file that cannot become a document; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFile:
    """A file that is to become a document: its id is the path below the folder that was given, with "/" between the parts."""

    path: Path
    document_id: str
    mime_type: str


def find_files(paths: list[Path]) -> list[FoundFile]:
    """The documents below `paths`, in order.

    Folders are walked without hidden files and folders, other suffixes, and links to folders (which may form loops). A file that is
    named itself is always taken.

    Raises:
        FileNotFoundError: a path does not exist.
        TooManyFiles: there are more than FILES_MAX.
    """
    found: list[FoundFile] = []
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist")
        root = path if path.is_dir() else path.parent
        for file in _walk(path) if path.is_dir() else [path]:
            if len(found) == FILES_MAX:
                raise TooManyFiles(f"more than {FILES_MAX} files: give them in several runs")
            mime_type = MIME_TYPES.get(file.suffix.lower(), "text/plain")
            found.append(FoundFile(path=file, document_id=file.relative_to(root).as_posix(), mime_type=mime_type))
    return found


def _walk(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in MIME_TYPES:
                yield Path(folder) / name


def read_file(file: FoundFile) -> bytes:
    """The content of a file.

    Raises:
        BrokenFile: it cannot be read, or is not text that a document can be made of; whether there is text in a .pdf or .docx, the
            server says.
    """
    try:
        file.document_id.encode()
        status = file.path.stat()
        # A pipe or a device would never end.
        if not stat.S_ISREG(status.st_mode):
            raise BrokenFile("not a regular file")
        if status.st_size > FILE_BYTES_MAX:
            raise BrokenFile(f"{status.st_size} bytes; the limit is {FILE_BYTES_MAX}")
        content = file.path.read_bytes()
        if file.mime_type in BINARY:
            return content
        text = content.decode()
    except OSError as error:
        raise BrokenFile(error.strerror or str(error)) from error
    except UnicodeEncodeError as error:
        raise BrokenFile("its name is not UTF-8") from error
    except UnicodeDecodeError as error:
        raise BrokenFile(f"not UTF-8 at byte {error.start}") from error
    if "\0" in text:
        raise BrokenFile("binary: it contains NUL bytes")
    if not text.strip():
        raise BrokenFile("no text in it")
    return content
