"""Page sizes and page tokens of lists."""

import base64
import binascii
import hashlib

from gannet_service.errors import InvalidInput

PAGE_SIZE_DEFAULT = 100
PAGE_SIZE_MAX = 1000
_CHECK_BYTES = 4


def page_size(value: int) -> int:
    """The number of entries wanted: 0 means 100, more than 1,000 is refused."""
    if value > PAGE_SIZE_MAX:
        raise InvalidInput(f"page_size: {value}; the limit is {PAGE_SIZE_MAX}", field="page_size")
    return value or PAGE_SIZE_DEFAULT


def write_token(scope: str, after: str | None) -> str:
    """A token that continues the list of `scope` after the entry `after`; empty at the end of the list."""
    if after is None:
        return ""
    return base64.urlsafe_b64encode(_check(scope, after) + after.encode()).decode()


def read_token(scope: str, token: str) -> str:
    """What `write_token` was given; raises InvalidInput for a token of another list, or of nobody."""
    if not token:
        return ""
    try:
        raw = base64.urlsafe_b64decode(token.encode())
        after = raw[_CHECK_BYTES:].decode()
    except (binascii.Error, ValueError) as error:
        raise InvalidInput("page_token: not one that this server gave", field="page_token") from error
    if raw[:_CHECK_BYTES] != _check(scope, after) or "\x00" in after:
        raise InvalidInput("page_token: not one that this server gave for this list", field="page_token")
    return after


def _check(scope: str, after: str) -> bytes:
    return hashlib.sha256(f"{scope}\x00{after}".encode()).digest()[:_CHECK_BYTES]
