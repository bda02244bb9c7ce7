"""Tenants, their limits and their API keys, as the ledger gives them back."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a tenant may use; None leaves a limit to the configuration, 0 means there is none. `weight` is its share under load."""

    queries_per_s: float | None = None
    documents_per_s: float | None = None
    tokens_per_s: float | None = None
    documents_max: int | None = None
    bytes_max: int | None = None
    weight: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A tenant; one that is disabled is refused with whatever credentials."""

    id: str
    disabled: bool = False
    limits: Limits = Limits()
    created_at_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key of a tenant, without the key itself. `last_used_at_s` is right to the hour."""

    tenant: str
    digest: str
    label: str
    scopes: tuple[str, ...]
    identities: tuple[str, ...] = ()
    created_at_s: float = 0.0
    expires_at_s: float | None = None
    revoked_at_s: float | None = None
    last_used_at_s: float | None = None

    @property
    def id(self) -> str:
        """Names the key in lists and logs: 64 bits of its digest, of no use to whoever would guess the key."""
        return self.digest[:KEY_ID_CHARACTERS]

    def is_valid(self, now_s: float) -> bool:
        """Whether it lets anybody in."""
        return self.revoked_at_s is None and (self.expires_at_s is None or now_s < self.expires_at_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a tenant's live documents take."""

    documents: int
    text_bytes: int


KEY_ID_CHARACTERS = 16
