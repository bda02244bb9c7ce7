"""An issuer's public keys: fetched in the background, at a bounded rate, kept while the issuer is down."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, cast

import httpx
import jwt
import structlog
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from gannet_service.errors import DependencyUnavailable, Unauthenticated

DOCUMENT_BYTES_MAX = 1 << 20
KEYS_MAX = 100
RSA_BITS_MIN = 2048
# Calls that may wait for a fetch at once; a flood of tokens with made-up keys must not fill the server.
WAITING_MAX = 64

Keys = Mapping[str, jwt.PyJWK]

_log: structlog.stdlib.BoundLogger = structlog.get_logger("oidc")


class KeySet:
    """Keys by their id (`kid`).

    A key that is known is given at once, whatever the issuer does. One that is not is looked for by one fetch that all who miss it wait
    for, at most one in `pause_s`. Keys are fetched again every `refresh_s`, and stay as they are where that fails. `clock` is monotonic.
    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[Keys]],
        *,
        refresh_s: float,
        pause_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._refresh_s = refresh_s
        self._pause_s = pause_s
        self._clock = clock
        self._keys: Keys = {}
        self._failed = True
        self._fetched_at = self._asked_at = -float("inf")
        self._fetching: asyncio.Task[None] | None = None
        self._waiting = 0

    async def key(self, kid: str) -> jwt.PyJWK:
        """The key of this id.

        Raises:
            Unauthenticated: reason TOKEN_KEY_UNKNOWN; the issuer has no such key.
            DependencyUnavailable: reason TOKEN_KEYS_UNAVAILABLE; the issuer does not say.
        """
        found = self._keys.get(kid)
        if found is not None:
            if self._clock() - self._fetched_at >= self._refresh_s:
                self._begin()
            return found
        fetching = self._begin()
        if fetching is not None and self._waiting < WAITING_MAX:
            self._waiting += 1
            try:
                await asyncio.wait([fetching])
            finally:
                self._waiting -= 1
        found = self._keys.get(kid)
        if found is not None:
            return found
        if self._failed or (self._fetching is not None and not self._fetching.done()):
            problem = "the keys of the tokens' issuer cannot be had"
            raise DependencyUnavailable(problem, reason="TOKEN_KEYS_UNAVAILABLE", retry_after_s=self._pause_s)
        raise Unauthenticated("the token is signed by a key that its issuer does not list", reason="TOKEN_KEY_UNKNOWN")

    async def close(self) -> None:
        """Stop fetching."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    def _begin(self) -> asyncio.Task[None] | None:
        """The fetch that is under way, or a new one; None where the last began less than `pause_s` ago."""
        if self._fetching is not None and not self._fetching.done():
            return self._fetching
        if self._clock() - self._asked_at < self._pause_s:
            return None
        self._asked_at = self._clock()
        self._fetching = asyncio.ensure_future(self._fetch_once())
        return self._fetching

    async def _fetch_once(self) -> None:
        try:
            self._keys = await self._fetch()
        except DependencyUnavailable as error:
            self._failed = True
            _log.warning("keys not fetched", reason=error.reason, message=error.message, known=len(self._keys))
        else:
            self._failed = False
            self._fetched_at = self._clock()
            _log.info("keys fetched", keys=sorted(self._keys))


def from_url(issuer: str, jwks_url: str, *, timeout_s: float) -> Callable[[], Awaitable[Keys]]:
    """Fetches the keys from `jwks_url`, or from where the issuer's discovery document says that they are."""

    async def fetch() -> Keys:
        try:
            async with asyncio.timeout(timeout_s), httpx.AsyncClient(timeout=timeout_s, trust_env=False) as client:
                url = jwks_url or await _discovered(client, issuer)
                return parse_keys(await _document(client, url))
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError) as error:
            raise _unavailable(f"{issuer}: {error!r}") from error

    return fetch


def from_file(path: Path) -> Callable[[], Awaitable[Keys]]:
    """Reads the keys from a file, again whenever they are fetched."""

    async def fetch() -> Keys:
        try:
            return parse_keys(json.loads(await asyncio.to_thread(path.read_bytes)))
        except (OSError, ValueError) as error:
            raise _unavailable(f"{path}: {error}") from error

    return fetch


def parse_keys(document: object) -> Keys:
    """The RSA (2048 bits or more) and P-256 keys for signatures in a JWK set, by their ids; others are passed over."""
    entries = cast("Mapping[str, Any]", document).get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise _unavailable("a JWK set has no list of keys")
    keys: dict[str, jwt.PyJWK] = {}
    for entry in cast("list[Any]", entries)[:KEYS_MAX]:
        kid: object = entry.get("kid") if isinstance(entry, dict) else None
        if not isinstance(kid, str) or entry.get("use", "sig") != "sig":
            continue
        try:
            key = jwt.PyJWK(entry, algorithm={"RSA": "RS256", "EC": "ES256"}.get(str(entry.get("kty")), ""))
        except jwt.PyJWTError:
            continue
        if _is_strong(key.key):
            keys[kid] = key
    return keys


def _is_strong(key: object) -> bool:
    if isinstance(key, RSAPublicKey):
        return key.key_size >= RSA_BITS_MIN
    return isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1)


async def _discovered(client: httpx.AsyncClient, issuer: str) -> str:
    document = await _document(client, f"{issuer.rstrip('/')}/.well-known/openid-configuration")
    said = cast("Mapping[str, Any]", document) if isinstance(document, dict) else {}
    if said.get("issuer") != issuer:  # or another issuer could speak for this one
        raise _unavailable(f"the discovery document of {issuer} is that of {said.get('issuer')!r}")
    url: object = said.get("jwks_uri")
    if not isinstance(url, str) or not url.startswith(issuer.partition("//")[0] + "//"):
        raise _unavailable(f"the discovery document of {issuer} has no jwks_uri of its own scheme")
    return url


async def _document(client: httpx.AsyncClient, url: str) -> object:
    data = bytearray()
    async with client.stream("GET", url) as response:
        if not response.is_success:
            raise _unavailable(f"{url} answers {response.status_code}")
        async for piece in response.aiter_bytes():
            data += piece
            if len(data) > DOCUMENT_BYTES_MAX:
                raise _unavailable(f"{url} answers more than {DOCUMENT_BYTES_MAX} bytes")
    try:
        return json.loads(data)
    except ValueError as error:
        raise _unavailable(f"{url} does not answer JSON") from error


def _unavailable(problem: str) -> DependencyUnavailable:
    return DependencyUnavailable(problem, reason="TOKEN_KEYS_UNAVAILABLE")
