"""API keys: from the call's metadata to its tenant."""

import asyncio
import hashlib
from collections.abc import Mapping
from pathlib import Path

from cachetools import TTLCache

from gannet_gateway.ledger.ledger import Ledger
from gannet_service.call import Principal
from gannet_service.errors import Unauthenticated

KEY_CHARACTERS_MAX = 200
CACHED_KEYS_MAX = 10_000
_SCHEME = "bearer "


class ApiKeys:
    """Authenticates calls by `authorization: Bearer <key>`."""

    def __init__(self, ledger: Ledger, *, cache_s: float) -> None:
        self._ledger = ledger
        self._known: TTLCache[str, Principal] = TTLCache(CACHED_KEYS_MAX, cache_s)

    async def authenticate(self, metadata: Mapping[str, str]) -> Principal:
        """The caller; raises Unauthenticated."""
        header = metadata.get("authorization", "")
        key = header[len(_SCHEME) :].strip()
        if not header.lower().startswith(_SCHEME) or not key:
            raise Unauthenticated('"authorization: Bearer <API key>" metadata is missing', reason="API_KEY_MISSING")
        if len(key) > KEY_CHARACTERS_MAX:
            raise Unauthenticated(
                f"the API key is longer than {KEY_CHARACTERS_MAX} characters", reason="API_KEY_UNKNOWN"
            )
        digest = digest_of(key)
        principal = self._known.get(digest)
        if principal is None:
            tenant = await self._ledger.tenant_of_key(digest)
            if tenant is None:
                raise Unauthenticated("the API key is not known, or was revoked", reason="API_KEY_UNKNOWN")
            principal = self._known[digest] = Principal(tenant=tenant, credential=digest[:12])
        return principal


class Anyone:
    """Lets every call in, for one tenant: `auth` switched off."""

    def __init__(self, tenant: str) -> None:
        self._principal = Principal(tenant=tenant, credential="anyone")

    async def authenticate(self, metadata: Mapping[str, str]) -> Principal:
        """The one caller."""
        del metadata
        return self._principal


async def bootstrap(ledger: Ledger, tenant: str, key_file: Path | None) -> None:
    """Make the tenant known and, if there is a file, the key in it; raises ValueError for a file that holds none."""
    await ledger.add_tenant(tenant)
    if key_file is None:
        return
    key = (await asyncio.to_thread(key_file.read_text, encoding="utf-8")).strip()
    if not 16 <= len(key) <= KEY_CHARACTERS_MAX:
        raise ValueError(f"{key_file}: an API key has 16 to {KEY_CHARACTERS_MAX} characters, found {len(key)}")
    await ledger.add_api_key(tenant, digest_of(key), "bootstrap")


def digest_of(key: str) -> str:
    """What is stored of a key. Keys are random, so that a plain digest cannot be guessed back."""
    return hashlib.sha256(key.encode()).hexdigest()
