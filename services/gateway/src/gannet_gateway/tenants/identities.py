"""Identities: whom documents name as readers, and whom callers read as. "user:ann" and "group:eng"."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from gannet_gateway.tenants.scopes import NOT_FOR_USERS, Scope, demand
from gannet_service.call import Principal
from gannet_service.errors import InvalidInput

READERS_MAX = 64
GROUPS_MAX = 256
ID_CHARACTERS_MAX = 128
USER_KEY, GROUPS_KEY = "gannet-user", "gannet-groups"

# Printable ASCII, which is what metadata carries; a comma separates the groups there.
_ID = re.compile(rf"[!-+\--~]{{1,{ID_CHARACTERS_MAX}}}")
_IDENTITY = re.compile(rf"(?:user|group):{_ID.pattern}")


def identities_of(user: str, groups: Iterable[str]) -> tuple[str, ...]:
    """What a caller reads as; no user is an empty string."""
    return tuple(sorted({*([f"user:{user}"] if user else []), *(f"group:{group}" for group in groups)}))


def is_id(value: str) -> bool:
    """Whether `value` may name a user or a group."""
    return _ID.fullmatch(value) is not None


def check_user(value: str, field: str) -> str:
    """`value` if it may name a user or a group."""
    if not is_id(value):
        problem = f"1 to {ID_CHARACTERS_MAX} printable ASCII characters without spaces and commas"
        raise InvalidInput(f"{field}: {value[:100]!r} is not {problem}", field=field)
    return value


def check_groups(values: Iterable[str], field: str) -> list[str]:
    """`values`, each once, if they may name groups."""
    groups = list(dict.fromkeys(values))
    if len(groups) > GROUPS_MAX:
        raise InvalidInput(f"{field}: {len(groups)} groups; the limit is {GROUPS_MAX}", field=field)
    return [check_user(group, field) for group in groups]


def check_readers(values: Iterable[str], field: str) -> tuple[str, ...]:
    """The readers of a document, sorted, each once."""
    readers = tuple(sorted(set(values)))
    if len(readers) > READERS_MAX:
        raise InvalidInput(f"{field}: {len(readers)} readers; the limit is {READERS_MAX}", field=field)
    for reader in readers:
        if not _IDENTITY.fullmatch(reader):
            problem = f'{field}: {reader[:100]!r} is not "user:ID" or "group:ID", the ID of at most {ID_CHARACTERS_MAX}'
            raise InvalidInput(f"{problem} printable ASCII characters without spaces and commas", field=field)
    return readers


def acting(principal: Principal, metadata: Mapping[str, str]) -> Principal:
    """The caller, or the user that the metadata names and that the caller may act for.

    Such a call reads as that user alone, whoever the credential belongs to, and has no scope that reaches beyond a user's own.

    Raises:
        PermissionDenied: reason SCOPE_MISSING; who may not act for others is refused rather than answered as somebody else.
        InvalidInput: no user, or names that cannot be.
    """
    user, groups = metadata.get(USER_KEY), metadata.get(GROUPS_KEY)
    if user is None and groups is None:
        return principal
    demand(Scope.ACT_AS, principal)
    if user is None:
        raise InvalidInput(f"{GROUPS_KEY}: needs {USER_KEY} beside it", field=USER_KEY)
    named = [group.strip() for group in (groups or "").split(",")] if groups else []
    return replace(
        principal,
        scopes=principal.scopes - NOT_FOR_USERS,
        identities=identities_of(check_user(user, USER_KEY), check_groups(named, GROUPS_KEY)),
    )
