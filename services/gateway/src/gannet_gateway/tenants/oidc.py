"""Tokens of an OpenID Connect issuer: a signed JWT becomes a principal."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import jwt

from gannet_gateway.tenants.identities import GROUPS_MAX, identities_of, is_id
from gannet_gateway.tenants.jwks import KeySet
from gannet_gateway.tenants.scopes import Scope, known
from gannet_service.call import Principal
from gannet_service.errors import PermissionDenied, Unauthenticated

# Asymmetric ones alone: with HS256 allowed, whoever knows the public key could sign.
ALGORITHMS = ("RS256", "ES256")
TOKEN_CHARACTERS_MAX = 8192
_JOSE_HEADER = "eyJ"  # '{"' in base64


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """Where a token says what. A name is looked up as it stands, then as a path with dots.

    Attributes:
        tenant: claim of the tenant's id; `tenant_fixed` is that of every token, if it is not empty.
        user: claim of the user's id.
        groups: claim of the list of groups.
        scopes: claim of the scopes, a list or a text with spaces; tokens without it have `scopes_default`.
        scopes_allowed: what no token goes beyond, whatever it says.
    """

    tenant: str
    tenant_fixed: str
    user: str
    groups: str
    scopes: str
    scopes_default: frozenset[Scope]
    scopes_allowed: frozenset[Scope]


class Issuer:
    """Checks tokens of one issuer for one audience; `leeway_s` is for clocks that differ."""

    def __init__(self, issuer: str, audience: str, keys: KeySet, claims: Claims, *, leeway_s: float) -> None:
        self._issuer = issuer
        self._audience = audience
        self._keys = keys
        self._claims = claims
        self._leeway_s = leeway_s

    def claims(self, credential: str) -> bool:
        """Whether this is a token, rather than an API key."""
        return credential.startswith(_JOSE_HEADER) and credential.count(".") == 2

    async def principal(self, credential: str) -> Principal:
        """Whose token it is.

        Raises:
            Unauthenticated: reason TOKEN_INVALID, TOKEN_EXPIRED, TOKEN_KEY_UNKNOWN.
            PermissionDenied: reason TOKEN_CLAIMS; it is good, and does not say for whom.
            DependencyUnavailable: its key is not known, and the issuer does not answer.
        """
        if len(credential) > TOKEN_CHARACTERS_MAX:
            raise _invalid(f"it is longer than {TOKEN_CHARACTERS_MAX} characters")
        try:
            header = jwt.get_unverified_header(credential)
        except jwt.PyJWTError as error:
            raise _invalid("its header cannot be read") from error
        kid, algorithm = header.get("kid"), header.get("alg")
        if algorithm not in ALGORITHMS:
            raise _invalid(f"its algorithm is not one of {', '.join(ALGORITHMS)}")
        if not isinstance(kid, str):
            raise _invalid("its header names no key (kid)")
        key = await self._keys.key(kid)
        if key.algorithm_name != algorithm:
            raise _invalid("its algorithm is not its key's")
        try:
            claims = jwt.decode(
                credential,
                key,
                algorithms=[key.algorithm_name],
                audience=self._audience,
                issuer=self._issuer,
                leeway=self._leeway_s,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.ExpiredSignatureError as error:
            raise Unauthenticated("the token has expired", reason="TOKEN_EXPIRED") from error
        except jwt.PyJWTError as error:
            raise _invalid(str(error)) from error
        return self._principal(claims)

    async def close(self) -> None:
        """Stop fetching keys."""
        await self._keys.close()

    def _principal(self, claims: Mapping[str, Any]) -> Principal:
        names = self._claims
        tenant = names.tenant_fixed or _claim(claims, names.tenant)
        user = _claim(claims, names.user)
        if not isinstance(tenant, str) or not tenant:
            raise _lacking(names.tenant)
        if not isinstance(user, str) or not is_id(user):
            raise _lacking(names.user)
        # A group whose name cannot stand among a document's readers opens no document.
        groups = [group for group in _texts(_claim(claims, names.groups)) if is_id(group)]
        if len(groups) > GROUPS_MAX:
            problem = f"the token names {len(groups)} groups; the limit is {GROUPS_MAX}"
            raise PermissionDenied(problem, reason="TOKEN_CLAIMS")
        said = _claim(claims, names.scopes)
        scopes = names.scopes_default if said is None else known(_texts(said))
        return Principal(
            tenant=tenant,
            credential="token",
            scopes=frozenset(scopes & names.scopes_allowed),
            identities=identities_of(user, groups),
        )


def _claim(claims: Mapping[str, Any], name: str) -> object:
    if name in claims:
        return claims[name]
    value: object = claims
    for part in name.split("."):
        value = cast("Mapping[str, object]", value).get(part) if isinstance(value, dict) else None
    return value


def _texts(value: object) -> list[str]:
    """A claim that is a list of texts, or one text with spaces."""
    if isinstance(value, str):
        return value.split()
    return [each for each in cast("list[object]", value) if isinstance(each, str)] if isinstance(value, list) else []


def _invalid(why: str) -> Unauthenticated:
    return Unauthenticated(f"the token is not accepted: {why}", reason="TOKEN_INVALID")


def _lacking(claim: str) -> PermissionDenied:
    return PermissionDenied(f"the token's claim {claim!r} is missing, or no name that can be", reason="TOKEN_CLAIMS")
