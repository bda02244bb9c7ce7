"""What tenants may use: rates by token buckets, and how much they may store."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from cachetools import TTLCache

from gannet_gateway.auth import CACHED_TENANTS_MAX, Tenants
from gannet_gateway.ledger.accounts import Accounts
from gannet_gateway.tenants.buckets import Buckets, Rate
from gannet_gateway.tenants.records import Limits, Tenant
from gannet_service.errors import QuotaExceeded

# For so long the amount stored is counted up here, rather than asked of the ledger: other gateways' uploads are seen that much later.
USAGE_S = 5.0
BYTES_PER_TOKEN = 4


class Kind(StrEnum):
    """What flows through a bucket."""

    QUERIES = "queries"
    DOCUMENTS = "documents"
    TOKENS = "tokens"


@dataclass(slots=True, kw_only=True)
class _Stored:
    """What a tenant has stored: as the ledger said, and what came since."""

    documents: int
    text_bytes: int


class Quotas:
    """Limits of tenants, `defaults` where they have none of their own; a bucket holds `burst_s` seconds' worth. `clock` is monotonic."""

    def __init__(
        self,
        accounts: Accounts,
        tenants: Tenants,
        buckets: Buckets,
        defaults: Limits,
        *,
        burst_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._accounts = accounts
        self._tenants = tenants
        self._buckets = buckets
        self._defaults = defaults
        self._burst_s = burst_s
        self._stored: TTLCache[str, _Stored] = TTLCache(CACHED_TENANTS_MAX, USAGE_S, timer=clock)

    async def admit_query(self, tenant: Tenant, *, tokens: bool) -> None:
        """Count a search or an answer; `tokens` says that it will take some, which a tenant in debt may not.

        Raises:
            QuotaExceeded: with the time after which it is let through.
        """
        if tokens:
            await self._take(tenant, Kind.TOKENS, 0)
        await self._take(tenant, Kind.QUERIES, 1)

    async def charge_queries(self, tenant: Tenant, amount: int) -> None:
        """Count searches of a call that was admitted as one; never refused, the tenant may owe them."""
        rate = self._rate(tenant.limits.queries_per_s, self._defaults.queries_per_s)
        if rate is not None and amount:
            await self._buckets.take(f"{tenant.id}:{Kind.QUERIES}", amount, rate, forced=True)

    async def charge_tokens(self, tenant_id: str, amount: int) -> None:
        """Count what was used; never refused, the tenant may owe it."""
        tenant = await self._tenants.tenant(tenant_id)
        rate = self._rate(tenant.limits.tokens_per_s, self._defaults.tokens_per_s)
        if rate is not None and amount:
            await self._buckets.take(f"{tenant_id}:{Kind.TOKENS}", amount, rate, forced=True)

    async def admit_document(self, tenant_id: str, size: int) -> None:
        """Count a document of `size` bytes, its tokens and its room.

        Raises:
            QuotaExceeded: with the time after which it is let through; without one where there is no room.
        """
        tenant = await self._tenants.tenant(tenant_id)
        await self._check_room(tenant, size)
        await self._take(tenant, Kind.DOCUMENTS, 1)
        await self._take(tenant, Kind.TOKENS, -(-size // BYTES_PER_TOKEN))

    async def _check_room(self, tenant: Tenant, size: int) -> None:
        documents_max = _chosen(tenant.limits.documents_max, self._defaults.documents_max)
        bytes_max = _chosen(tenant.limits.bytes_max, self._defaults.bytes_max)
        if not documents_max and not bytes_max:
            return
        stored = self._stored.get(tenant.id)
        if stored is None:
            usage = await self._accounts.usage(tenant.id)
            # Whoever asked meanwhile counts in the same place.
            fresh = _Stored(documents=usage.documents, text_bytes=usage.text_bytes)
            stored = self._stored.setdefault(tenant.id, fresh)
        # What replaces a document counts as one more until the ledger is asked again.
        if documents_max and stored.documents >= documents_max:
            raise QuotaExceeded(f"{stored.documents} documents are stored; the tenant's limit is {documents_max:.0f}")
        if bytes_max and stored.text_bytes + size > bytes_max:
            problem = (
                f"{stored.text_bytes} bytes are stored and {size} more came; the tenant's limit is {bytes_max:.0f}"
            )
            raise QuotaExceeded(problem)
        stored.documents += 1
        stored.text_bytes += size

    async def _take(self, tenant: Tenant, kind: Kind, amount: float) -> None:
        field = f"{kind}_per_s"
        rate = self._rate(getattr(tenant.limits, field), getattr(self._defaults, field))
        if rate is None:
            return
        wait_s = await self._buckets.take(f"{tenant.id}:{kind}", amount, rate)
        if wait_s > 0:
            raise QuotaExceeded(f"the tenant's limit is {rate.per_s:g} {kind} a second", retry_after_s=wait_s)

    def _rate(self, own: float | None, default: float | None) -> Rate | None:
        per_s = _chosen(own, default)
        return Rate(per_s=per_s, capacity=max(1.0, per_s * self._burst_s)) if per_s else None


def _chosen(own: float | None, default: float | None) -> float:
    return (default or 0) if own is None else own
