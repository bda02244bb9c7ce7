"""From a call's metadata to its principal: an API key or a token, and the user that it names."""

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import structlog
from cachetools import TTLCache

from gannet_gateway.ledger.accounts import Accounts
from gannet_gateway.tenants.identities import acting
from gannet_gateway.tenants.records import ApiKey, Tenant
from gannet_gateway.tenants.scopes import EVERY_SCOPE, known
from gannet_service.call import Principal
from gannet_service.errors import AlreadyExists, GannetError, NotFound, PermissionDenied, Unauthenticated

KEY_CHARACTERS_MAX = 200
CACHED_KEYS_MAX = 10_000
CACHED_TENANTS_MAX = 10_000
RECORD_USE_PERIOD_S = 60.0
KEY_PREFIX = "gnt_"
_KEY_BYTES = 32
_SCHEME = "bearer "

_log: structlog.stdlib.BoundLogger = structlog.get_logger("auth")


class Tokens(Protocol):
    """Whoever else knows callers: by tokens of an issuer."""

    def claims(self, credential: str) -> bool:
        """Whether this is a token, rather than an API key."""
        ...

    async def principal(self, credential: str) -> Principal:
        """Whose token it is; raises Unauthenticated, PermissionDenied."""
        ...


class Tenants:
    """Tenants as the ledger had them at most `cache_s` ago."""

    def __init__(self, accounts: Accounts, *, cache_s: float) -> None:
        self._accounts = accounts
        self._known: TTLCache[str, Tenant] = TTLCache(CACHED_TENANTS_MAX, cache_s)

    async def tenant(self, name: str) -> Tenant:
        """A tenant that may be served; raises PermissionDenied, reason TENANT_UNKNOWN or TENANT_DISABLED."""
        tenant = self._known.get(name)
        if tenant is None:
            try:
                tenant = self._known[name] = await self._accounts.tenant(name)
            except NotFound as error:
                raise PermissionDenied(
                    "the tenant of these credentials is not known", reason="TENANT_UNKNOWN"
                ) from error
        if tenant.disabled:
            raise PermissionDenied("the tenant of these credentials is disabled", reason="TENANT_DISABLED")
        return tenant


class Callers:
    """Authenticates calls by `authorization: Bearer <API key or token>`; `clock` gives Unix seconds."""

    def __init__(
        self,
        accounts: Accounts,
        tenants: Tenants,
        *,
        cache_s: float,
        tokens: Tokens | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._accounts = accounts
        self._tenants = tenants
        self._tokens = tokens
        self._clock = clock
        self._keys: TTLCache[str, tuple[ApiKey, Principal]] = TTLCache(CACHED_KEYS_MAX, cache_s)
        self._used: set[str] = set()

    async def authenticate(self, metadata: Mapping[str, str]) -> Principal:
        """The caller; raises Unauthenticated, PermissionDenied, InvalidInput (a user who cannot be)."""
        header = metadata.get("authorization", "")
        credential = header[len(_SCHEME) :].strip()
        if not header.lower().startswith(_SCHEME) or not credential:
            raise Unauthenticated('"authorization: Bearer <API key>" metadata is missing', reason="API_KEY_MISSING")
        if self._tokens is not None and self._tokens.claims(credential):
            principal = await self._tokens.principal(credential)
        else:
            principal = await self._principal_of_key(credential)
        await self._tenants.tenant(principal.tenant)
        return acting(principal, metadata)

    async def record_uses(self) -> None:
        """Write down now and then which keys were used; runs as long as the server."""
        while True:
            await asyncio.sleep(RECORD_USE_PERIOD_S)
            await self.record_use()

    async def record_use(self) -> None:
        """Write down which keys were used since the last time; what fails is tried again with the next uses."""
        used, self._used = self._used, set()
        if not used:
            return
        try:
            await self._accounts.record_use(used)
        except GannetError as error:
            _log.warning("uses of keys not recorded", reason=error.reason, message=error.message)

    async def _principal_of_key(self, credential: str) -> Principal:
        if len(credential) > KEY_CHARACTERS_MAX:
            problem = f"the API key is longer than {KEY_CHARACTERS_MAX} characters"
            raise Unauthenticated(problem, reason="API_KEY_UNKNOWN")
        digest = digest_of(credential)
        entry = self._keys.get(digest)
        if entry is None:
            key = await self._accounts.find_key(digest)
            if key is None:
                raise Unauthenticated("the API key is not known, or was revoked", reason="API_KEY_UNKNOWN")
            principal = Principal(
                tenant=key.tenant, credential=key.id, scopes=known(key.scopes), identities=key.identities
            )
            entry = self._keys[digest] = (key, principal)
            self._used.add(digest)
        key, principal = entry
        if key.revoked_at_s is not None:
            raise Unauthenticated("the API key is not known, or was revoked", reason="API_KEY_UNKNOWN")
        if not key.is_valid(self._clock()):
            raise Unauthenticated("the API key has expired", reason="API_KEY_EXPIRED")
        return principal


class Anyone:
    """Lets every call in, for one tenant, with every scope: `auth` switched off. A call may still name its user."""

    def __init__(self, tenant: str) -> None:
        self._principal = Principal(tenant=tenant, credential="anyone", scopes=EVERY_SCOPE)

    async def authenticate(self, metadata: Mapping[str, str]) -> Principal:
        """The one caller."""
        return acting(self._principal, metadata)


async def bootstrap(accounts: Accounts, tenant: str, key_file: Path | None) -> None:
    """Make the tenant known and, if there is a file, the key in it, with every scope; raises ValueError for a file that holds none."""
    try:
        await accounts.create_tenant(Tenant(id=tenant))
    except AlreadyExists:
        _log.debug("the bootstrap tenant is there", tenant=tenant)
    if key_file is None:
        return
    key = (await asyncio.to_thread(key_file.read_text, encoding="utf-8")).strip()
    if not 16 <= len(key) <= KEY_CHARACTERS_MAX:
        raise ValueError(f"{key_file}: an API key has 16 to {KEY_CHARACTERS_MAX} characters, found {len(key)}")
    scopes = tuple(sorted(EVERY_SCOPE))
    await accounts.add_key(ApiKey(tenant=tenant, digest=digest_of(key), label="bootstrap", scopes=scopes))


def new_key() -> str:
    """A fresh API key: 256 random bits."""
    return KEY_PREFIX + secrets.token_urlsafe(_KEY_BYTES)


def digest_of(key: str) -> str:
    """What is stored of a key. Keys are random, so that a plain digest cannot be guessed back."""
    return hashlib.sha256(key.encode()).hexdigest()
