"""TenantService on the wire."""

import time
from collections.abc import Callable
from typing import Any

from google.protobuf.empty_pb2 import Empty

from gannet.gateway.v1 import tenants_pb2, tenants_pb2_grpc
from gannet_gateway.auth import digest_of, new_key
from gannet_gateway.ledger.accounts import Accounts
from gannet_gateway.names import check_collection_id, parse_any_tenant
from gannet_gateway.paging import page_size, read_token, write_token
from gannet_gateway.tenants import wire
from gannet_gateway.tenants.records import ApiKey, Tenant
from gannet_gateway.tenants.scopes import Scope, demand
from gannet_service import call
from gannet_service.errors import PermissionDenied

TENANTS = "tenants"


class TenantServicer(tenants_pb2_grpc.TenantServiceServicer):
    """See tenants.proto. `clock` gives Unix seconds."""

    def __init__(self, accounts: Accounts, *, clock: Callable[[], float] = time.time) -> None:
        self._accounts = accounts
        self._clock = clock

    async def CreateTenant(self, request: tenants_pb2.CreateTenantRequest, context: Any) -> tenants_pb2.Tenant:  # noqa: N802
        del context
        tenant = Tenant(
            id=check_collection_id(request.tenant_id, "tenant_id"),
            disabled=request.tenant.disabled,
            limits=wire.to_limits(request.tenant.limits, "tenant.limits"),
        )
        return wire.from_tenant(await self._accounts.create_tenant(tenant))

    async def GetTenant(self, request: tenants_pb2.GetTenantRequest, context: Any) -> tenants_pb2.Tenant:  # noqa: N802
        del context
        tenant = _tenant(request.name, "name")
        return wire.from_tenant(await self._accounts.tenant(tenant), await self._accounts.usage(tenant))

    async def ListTenants(  # noqa: N802
        self, request: tenants_pb2.ListTenantsRequest, context: Any
    ) -> tenants_pb2.ListTenantsResponse:
        del context
        after = read_token(TENANTS, request.page_token)
        page = await self._accounts.list_tenants(after=after, limit=page_size(request.page_size))
        return tenants_pb2.ListTenantsResponse(
            tenants=[wire.from_tenant(tenant) for tenant in page.items],
            next_page_token=write_token(TENANTS, page.next_after),
        )

    async def UpdateTenant(self, request: tenants_pb2.UpdateTenantRequest, context: Any) -> tenants_pb2.Tenant:  # noqa: N802
        del context
        tenant = _tenant(request.tenant.name, "tenant.name")
        disabled, limits = wire.to_changes(request.tenant, request.update_mask)
        return wire.from_tenant(await self._accounts.update_tenant(tenant, disabled=disabled, limits=limits))

    async def DeleteTenant(self, request: tenants_pb2.DeleteTenantRequest, context: Any) -> Empty:  # noqa: N802
        del context
        await self._accounts.delete_tenant(_tenant(request.name, "name"))
        return Empty()

    async def CreateApiKey(  # noqa: N802
        self, request: tenants_pb2.CreateApiKeyRequest, context: Any
    ) -> tenants_pb2.CreateApiKeyResponse:
        del context
        tenant = _tenant(request.parent, "parent")
        secret = new_key()
        key = wire.to_key(request.api_key, tenant=tenant, digest=digest_of(secret), now_s=self._clock())
        _check_granted(key)
        return tenants_pb2.CreateApiKeyResponse(api_key=wire.from_key(await self._accounts.add_key(key)), secret=secret)

    async def ListApiKeys(  # noqa: N802
        self, request: tenants_pb2.ListApiKeysRequest, context: Any
    ) -> tenants_pb2.ListApiKeysResponse:
        del context
        tenant = _tenant(request.parent, "parent")
        scope = f"tenants/{tenant}/apiKeys"
        after = read_token(scope, request.page_token)
        page = await self._accounts.list_keys(tenant, after=after, limit=page_size(request.page_size))
        return tenants_pb2.ListApiKeysResponse(
            api_keys=[wire.from_key(key) for key in page.items], next_page_token=write_token(scope, page.next_after)
        )

    async def RevokeApiKey(self, request: tenants_pb2.RevokeApiKeyRequest, context: Any) -> tenants_pb2.ApiKey:  # noqa: N802
        del context
        parent, key_id = wire.parse_key_name(request.name)
        return wire.from_key(await self._accounts.revoke_key(_tenant(parent, "name"), key_id))


def _tenant(name: str, field: str) -> str:
    """The tenant that a name means; another one than the caller's takes the scope `admin`."""
    tenant = parse_any_tenant(name, field)
    principal = call.principal()
    if tenant != principal.tenant:
        demand(Scope.ADMIN, principal)
        check_collection_id(tenant, field)
    return tenant


def _check_granted(key: ApiKey) -> None:
    """Raises PermissionDenied, reason SCOPE_MISSING, for a key that could do or read more than its maker."""
    principal = call.principal()
    for scope in key.scopes:
        demand(Scope(scope), principal)
    foreign = sorted({*key.identities} - {*principal.identities})
    if foreign and Scope.ACT_AS not in principal.scopes:
        problem = f"{foreign[0]} is not yours to give: the scope {Scope.ACT_AS.value!r} is missing"
        raise PermissionDenied(problem, reason="SCOPE_MISSING")
