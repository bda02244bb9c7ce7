"""Tenants, their limits and their API keys: for whoever runs the service, and for those who keep a tenant's keys."""

from __future__ import annotations  # grpc's classes are generic in their stubs only

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar, cast

import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from gannet.gateway.v1 import tenants_pb2
from gannet.gateway.v1.tenants_pb2_grpc import TenantServiceStub
from gannet_client.transport import Transport

PAGE_SIZE = 500
OWN = "-"

Q = TypeVar("Q")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantLimits:
    """What a tenant may use; None leaves a limit to the server, 0 means there is none. `weight` is its share under load."""

    queries_per_s: float | None = None
    documents_per_s: float | None = None
    tokens_per_s: float | None = None
    documents_max: int | None = None
    bytes_max: int | None = None
    weight: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A tenant. `documents` and `text_bytes`, which its live documents take, are known only of one that was got by itself."""

    name: str
    disabled: bool
    limits: TenantLimits
    create_time: datetime
    documents: int | None = None
    text_bytes: int | None = None

    @property
    def tenant_id(self) -> str:
        """The tenant's id."""
        return self.name.partition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key's record, without the key; `last_use_time` is right to the hour."""

    name: str
    label: str
    scopes: tuple[str, ...]
    user: str
    groups: tuple[str, ...]
    create_time: datetime
    expire_time: datetime | None
    revoke_time: datetime | None
    last_use_time: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewApiKey:
    """A key that was just made; `secret` is the key itself, which nobody can ask for again."""

    key: ApiKey
    secret: str


class Tenants:
    """TenantService. A tenant is given by its id; "-" is the caller's own."""

    def __init__(self, transport: Transport, timeout_s: float) -> None:
        self._transport = transport
        self._timeout_s = timeout_s
        self._stub = TenantServiceStub(transport.channel)

    async def create(self, tenant_id: str, limits: TenantLimits | None = None) -> Tenant:
        """Make a tenant, without keys and collections."""
        tenant = tenants_pb2.Tenant(limits=_limits(limits or TenantLimits()))
        request = tenants_pb2.CreateTenantRequest(tenant_id=tenant_id, tenant=tenant)
        return _tenant(await self._unary(self._stub.CreateTenant, request))

    async def get(self, tenant_id: str = OWN) -> Tenant:
        """A tenant and what it uses."""
        request = tenants_pb2.GetTenantRequest(name=f"tenants/{tenant_id}")
        return _tenant(await self._unary(self._stub.GetTenant, request))

    async def list(self) -> AsyncGenerator[Tenant]:
        """All tenants in the order of their ids."""
        token = ""
        while True:
            request = tenants_pb2.ListTenantsRequest(page_size=PAGE_SIZE, page_token=token)
            page = await self._unary(self._stub.ListTenants, request)
            for message in page.tenants:
                yield _tenant(message)
            token = page.next_page_token
            if not token:
                return

    async def update(
        self, tenant_id: str, *, limits: TenantLimits | None = None, disabled: bool | None = None
    ) -> Tenant:
        """Replace the limits, or let the tenant in or out; None leaves either as it is."""
        given = {"limits": limits is not None, "disabled": disabled is not None}
        tenant = tenants_pb2.Tenant(name=f"tenants/{tenant_id}", disabled=bool(disabled))
        if limits is not None:
            tenant.limits.CopyFrom(_limits(limits))
        mask = FieldMask(paths=[path for path, is_given in given.items() if is_given])
        request = tenants_pb2.UpdateTenantRequest(tenant=tenant, update_mask=mask)
        return _tenant(await self._unary(self._stub.UpdateTenant, request))

    async def delete(self, tenant_id: str) -> None:
        """Remove a tenant that has no collections, and its keys."""
        request = tenants_pb2.DeleteTenantRequest(name=f"tenants/{tenant_id}")
        await self._unary(self._stub.DeleteTenant, request)

    async def create_key(
        self,
        scopes: Sequence[str],
        *,
        tenant_id: str = OWN,
        label: str = "",
        user: str = "",
        groups: Sequence[str] = (),
        expire_time: datetime | None = None,
    ) -> NewApiKey:
        """Make a key that may do what `scopes` say, reading as `user` and `groups`."""
        key = tenants_pb2.ApiKey(label=label, scopes=scopes, user=user, groups=groups)
        if expire_time is not None:
            key.expire_time.FromDatetime(expire_time)
        request = tenants_pb2.CreateApiKeyRequest(parent=f"tenants/{tenant_id}", api_key=key)
        made = await self._unary(self._stub.CreateApiKey, request)
        return NewApiKey(key=_key(made.api_key), secret=made.secret)

    async def list_keys(self, tenant_id: str = OWN) -> AsyncGenerator[ApiKey]:
        """A tenant's keys, also those that let nobody in any more."""
        token = ""
        while True:
            request = tenants_pb2.ListApiKeysRequest(
                parent=f"tenants/{tenant_id}", page_size=PAGE_SIZE, page_token=token
            )
            page = await self._unary(self._stub.ListApiKeys, request)
            for message in page.api_keys:
                yield _key(message)
            token = page.next_page_token
            if not token:
                return

    async def revoke_key(self, name: str) -> ApiKey:
        """Let nobody in with the key of this name any more."""
        return _key(await self._unary(self._stub.RevokeApiKey, tenants_pb2.RevokeApiKeyRequest(name=name)))

    async def _unary(self, method: grpc.aio.UnaryUnaryMultiCallable[Q, R], request: Q) -> R:
        return await self._transport.unary(method, request, self._timeout_s)


def _limits(limits: TenantLimits) -> tenants_pb2.TenantLimits:
    return tenants_pb2.TenantLimits(**{name: getattr(limits, name) for name in TenantLimits.__dataclass_fields__})


def _tenant(message: tenants_pb2.Tenant) -> Tenant:
    said = message.limits
    has_usage = message.HasField("usage")
    return Tenant(
        name=message.name,
        disabled=message.disabled,
        limits=TenantLimits(
            queries_per_s=said.queries_per_s if said.HasField("queries_per_s") else None,
            documents_per_s=said.documents_per_s if said.HasField("documents_per_s") else None,
            tokens_per_s=said.tokens_per_s if said.HasField("tokens_per_s") else None,
            documents_max=said.documents_max if said.HasField("documents_max") else None,
            bytes_max=said.bytes_max if said.HasField("bytes_max") else None,
            weight=said.weight if said.HasField("weight") else None,
        ),
        create_time=message.create_time.ToDatetime(UTC),
        documents=message.usage.documents if has_usage else None,
        text_bytes=message.usage.text_bytes if has_usage else None,
    )


def _key(message: tenants_pb2.ApiKey) -> ApiKey:
    def moment(name: str) -> datetime | None:
        if not message.HasField(name):  # pyright: ignore[reportArgumentType] - the stub wants a literal
            return None
        return cast("Timestamp", getattr(message, name)).ToDatetime(UTC)

    return ApiKey(
        name=message.name,
        label=message.label,
        scopes=tuple(message.scopes),
        user=message.user,
        groups=tuple(message.groups),
        create_time=message.create_time.ToDatetime(UTC),
        expire_time=moment("expire_time"),
        revoke_time=moment("revoke_time"),
        last_use_time=moment("last_use_time"),
    )
