"""Puts together who calls, what they may do, and how much of it."""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NamedTuple

from gannet_gateway.auth import Anyone, Callers, Tenants, bootstrap
from gannet_gateway.cache.shared import SharedTier
from gannet_gateway.config import GatewayConfig
from gannet_gateway.ledger.accounts import Accounts
from gannet_gateway.ledger.engine import Database
from gannet_gateway.tenants.admission import Admission
from gannet_gateway.tenants.buckets import LocalBuckets, SharedBuckets
from gannet_gateway.tenants.gate import Gate
from gannet_gateway.tenants.jwks import KeySet, from_file, from_url
from gannet_gateway.tenants.oidc import Claims, Issuer
from gannet_gateway.tenants.quotas import Quotas
from gannet_gateway.tenants.records import Limits
from gannet_gateway.tenants.scopes import known
from gannet_gateway.tenants.servicer import TenantServicer
from gannet_service.interceptor import Authenticate


class Access(NamedTuple):
    """What the gateway needs of it; `background` runs as long as the server."""

    authenticate: Authenticate
    admission: Admission
    quotas: Quotas
    servicer: TenantServicer
    background: list[Callable[[], Coroutine[Any, Any, None]]]
    close: list[Callable[[], Awaitable[None]]]


async def access(config: GatewayConfig, database: Database, shared: SharedTier | None) -> Access:
    """Credentials, scopes, quotas and TenantService over the ledger, which knows the bootstrap tenant then."""
    accounts = Accounts(database)
    await bootstrap(accounts, config.bootstrap_tenant, config.bootstrap_api_key_file)
    tenants = Tenants(accounts, cache_s=config.api_key_cache_s)
    issuer = _issuer(config) if config.oidc_issuer else None
    callers = Callers(accounts, tenants, cache_s=config.api_key_cache_s, tokens=issuer)
    anyone = Anyone(config.bootstrap_tenant)
    local = LocalBuckets()
    buckets = local if shared is None else SharedBuckets(shared.evaluate, local)
    quotas = Quotas(accounts, tenants, buckets, _defaults(config), burst_s=config.quota_burst_s)
    return Access(
        authenticate=callers.authenticate if config.auth else anyone.authenticate,
        admission=Admission(
            tenants,
            quotas,
            searches=Gate(in_work_max=config.searches_in_work_max, waiting_max=config.tenant_waiting_max),
            answers=Gate(in_work_max=config.answers_in_work_max, waiting_max=config.tenant_waiting_max),
        ),
        quotas=quotas,
        servicer=TenantServicer(accounts),
        background=[callers.record_uses],
        close=[] if issuer is None else [issuer.close],
    )


def _issuer(config: GatewayConfig) -> Issuer:
    fetch = (
        from_url(config.oidc_issuer, config.oidc_jwks_url, timeout_s=config.oidc_timeout_s)
        if config.oidc_jwks_file is None
        else from_file(config.oidc_jwks_file)
    )
    claims = Claims(
        tenant=config.oidc_tenant_claim,
        tenant_fixed=config.oidc_tenant,
        user=config.oidc_user_claim,
        groups=config.oidc_groups_claim,
        scopes=config.oidc_scopes_claim,
        scopes_default=known(config.oidc_scopes_default.split()),
        scopes_allowed=known(config.oidc_scopes_allowed.split()),
    )
    keys = KeySet(fetch, refresh_s=config.oidc_refresh_s, pause_s=config.oidc_refresh_pause_s)
    return Issuer(config.oidc_issuer, config.oidc_audience, keys, claims, leeway_s=config.oidc_leeway_s)


def _defaults(config: GatewayConfig) -> Limits:
    return Limits(
        queries_per_s=config.tenant_queries_per_s,
        documents_per_s=config.tenant_documents_per_s,
        tokens_per_s=config.tenant_tokens_per_s,
        documents_max=config.tenant_documents_max,
        bytes_max=config.tenant_bytes_max,
    )
