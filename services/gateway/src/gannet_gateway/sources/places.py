"""Where a tenant's sources may read: directories and addresses that the operator has opened."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from gannet_service.errors import InvalidInput, PermissionDenied

DIRECTORY_BYTES_MAX = 4096
URL_BYTES_MAX = 2048
TENANT = "{tenant}"
PORTS = {"http": 80, "https": 443}


class Places:
    """`roots` are directories, `urls` prefixes of addresses; "{tenant}" in one stands for the tenant's id."""

    def __init__(self, roots: Sequence[str], urls: Sequence[str]) -> None:
        self._roots = roots
        self._urls = urls

    def check_directory(self, directory: str, tenant: str) -> Path:
        """The directory without links in its path, if a root holds it. Whether it exists shows when it is read.

        Raises:
            InvalidInput: not an absolute path.
            PermissionDenied: outside of every root.
        """
        size = len(directory.encode())
        if not 1 <= size <= DIRECTORY_BYTES_MAX or not directory.startswith("/") or "\x00" in directory:
            problem = f"source.directory: an absolute path of at most {DIRECTORY_BYTES_MAX} bytes is needed"
            raise InvalidInput(problem, field="source.directory")
        real = Path(directory).resolve()
        if not any(real.is_relative_to(Path(root.replace(TENANT, tenant)).resolve()) for root in self._roots):
            raise _closed(
                f"source.directory: {directory[:200]!r} is below none of the server's source_roots", "directory"
            )
        return real

    def check_url(self, url: str, tenant: str) -> str:
        """The address, if an opened one is a prefix of it in whole parts of its path.

        Raises:
            InvalidInput: not an address of http or https, or one with a user, a fragment or dots for parts of its path.
            PermissionDenied: not opened.
        """
        parts = _parts(url) if len(url.encode()) <= URL_BYTES_MAX else None
        if parts is None:
            problem = f"source.url: an http or https address of at most {URL_BYTES_MAX} bytes is needed, without user and fragment"
            raise InvalidInput(problem, field="source.url")
        for prefix in self._urls:
            opened = _parts(prefix.replace(TENANT, tenant))
            if opened is not None and parts[:3] == opened[:3] and parts[3][: len(opened[3])] == opened[3]:
                return url
        raise _closed(f"source.url: {url[:200]!r} begins with none of the server's source_urls", "url")


def _parts(url: str) -> tuple[str, str, int, tuple[str, ...]] | None:
    """Scheme, host, port and the path's parts, of an address that means the same to every client."""
    if not url.isascii() or not url.isprintable() or "\\" in url or " " in url:
        return None
    try:
        split = urlsplit(url)
        port = split.port
    except ValueError:
        return None
    path = tuple(part for part in split.path.split("/") if part)
    if split.scheme not in PORTS or not split.hostname or "@" in split.netloc or split.fragment:
        return None
    # Encoded dots and slashes may be decoded on the other side.
    if any(part.lower().replace("%2e", ".") in (".", "..") or "%2f" in part.lower() for part in path):
        return None
    return split.scheme, split.hostname, port or PORTS[split.scheme], path


def _closed(problem: str, field: str) -> PermissionDenied:
    return PermissionDenied(problem, field=f"source.{field}", reason="SOURCE_NOT_ALLOWED")
