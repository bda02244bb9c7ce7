"""Puts together who calls, and what they may do."""

from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from gannet_gateway.auth import Anyone, Callers, Tenants, bootstrap
from gannet_gateway.config import GatewayConfig
from gannet_gateway.ledger.accounts import Accounts
from gannet_gateway.ledger.engine import Database
from gannet_gateway.tenants.admission import Admission
from gannet_gateway.tenants.servicer import TenantServicer
from gannet_service.interceptor import Authenticate


class Access(NamedTuple):
    """What the gateway needs of it; `background` runs as long as the server."""

    authenticate: Authenticate
    admission: Admission
    servicer: TenantServicer
    background: list[Callable[[], Coroutine[Any, Any, None]]]


async def access(config: GatewayConfig, database: Database) -> Access:
    """Credentials, scopes and TenantService over the ledger, which knows the bootstrap tenant then."""
    accounts = Accounts(database)
    await bootstrap(accounts, config.bootstrap_tenant, config.bootstrap_api_key_file)
    tenants = Tenants(accounts, cache_s=config.api_key_cache_s)
    callers = Callers(accounts, tenants, cache_s=config.api_key_cache_s)
    anyone = Anyone(config.bootstrap_tenant)
    return Access(
        authenticate=callers.authenticate if config.auth else anyone.authenticate,
        admission=Admission(),
        servicer=TenantServicer(accounts),
        background=[callers.record_uses],
    )
