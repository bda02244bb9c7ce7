"""Signatures by the Standard Webhooks convention (www.standardwebhooks.com), whose libraries check them."""

import base64
import binascii
import hashlib
import hmac
import secrets

from gannet_service.errors import InvalidInput

PREFIX = "whsec_"
KEY_BYTES_MIN, KEY_BYTES_MAX = 24, 64
KEY_BYTES = 32


def new_secret() -> str:
    """A secret that nobody has had before."""
    return PREFIX + base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def check_secret(secret: str, field: str) -> str:
    """`secret` if it may sign; raises InvalidInput, which does not quote it."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(PREFIX) or not KEY_BYTES_MIN <= len(key) <= KEY_BYTES_MAX:
        problem = f'{field}: expected "{PREFIX}" and {KEY_BYTES_MIN} to {KEY_BYTES_MAX} bytes in base64'
        raise InvalidInput(problem, field=field)
    return secret


def headers(secret: str, event: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers of a post: HMAC-SHA256 over "{id}.{timestamp}.{body}"."""
    key = base64.b64decode(secret.removeprefix(PREFIX))
    digest = hmac.digest(key, f"{event}.{timestamp}.".encode() + body, hashlib.sha256)
    return {
        "webhook-id": event,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }
