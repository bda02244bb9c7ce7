"""Tenants and API keys between protobuf and the gateway's own types."""

import math
import re

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from gannet.gateway.v1 import tenants_pb2
from gannet_gateway.documents.wire import to_timestamp
from gannet_gateway.tenants.identities import check_groups, check_user, identities_of
from gannet_gateway.tenants.records import KEY_ID_CHARACTERS, ApiKey, Limits, Tenant, Usage
from gannet_gateway.tenants.scopes import Scope
from gannet_service.errors import InvalidInput

LABEL_CHARACTERS_MAX = 200
RATE_MAX, TOKENS_MAX = 1e6, 1e9
AMOUNT_MAX = 2**53
WEIGHT_MIN, WEIGHT_MAX = 0.01, 100.0

_KEY_NAME = re.compile(rf"(tenants/[^/]*)/apiKeys/([0-9a-f]{{{KEY_ID_CHARACTERS}}})")


def to_limits(message: tenants_pb2.TenantLimits, prefix: str) -> Limits:
    """Limits, every value checked."""
    weight = _rate(message, "weight", prefix, WEIGHT_MAX)
    if weight and weight < WEIGHT_MIN:
        field = f"{prefix}.weight"
        raise InvalidInput(f"{field}: {weight}; the limits are {WEIGHT_MIN} to {WEIGHT_MAX:g}", field=field)
    return Limits(
        queries_per_s=_rate(message, "queries_per_s", prefix, RATE_MAX),
        documents_per_s=_rate(message, "documents_per_s", prefix, RATE_MAX),
        tokens_per_s=_rate(message, "tokens_per_s", prefix, TOKENS_MAX),
        documents_max=_amount(message, "documents_max", prefix),
        bytes_max=_amount(message, "bytes_max", prefix),
        weight=weight,
    )


def to_changes(message: tenants_pb2.Tenant, mask: FieldMask) -> tuple[bool | None, Limits | None]:
    """What an update changes: whether the tenant is disabled, and its limits; None stays as it is."""
    paths = list(mask.paths) or ["disabled", "limits"]
    unknown = sorted({*paths} - {"disabled", "limits"})
    if unknown:
        problem = f'update_mask: {unknown[0][:100]!r} cannot be changed; "disabled" and "limits" can'
        raise InvalidInput(problem, field="update_mask")
    limits = to_limits(message.limits, "tenant.limits") if "limits" in paths else None
    return message.disabled if "disabled" in paths else None, limits


def to_key(message: tenants_pb2.ApiKey, *, tenant: str, digest: str, now_s: float) -> ApiKey:
    """A key to be made, every field checked."""
    if len(message.label) > LABEL_CHARACTERS_MAX or not message.label.isprintable():
        problem = (
            f"api_key.label: {len(message.label)} characters; at most {LABEL_CHARACTERS_MAX} printable ones may be"
        )
        raise InvalidInput(problem, field="api_key.label")
    names = sorted(set(message.scopes))
    unknown = [name for name in names if name not in set(Scope)]
    if unknown or not names:
        has = f"{unknown[0][:100]!r} is none" if unknown else "at least one is needed"
        known = ", ".join(Scope)
        raise InvalidInput(f"api_key.scopes: {has}; there are {known}", field="api_key.scopes")
    expires_at_s = message.expire_time.ToMicroseconds() / 1e6 if message.HasField("expire_time") else None
    if expires_at_s is not None and expires_at_s <= now_s:
        raise InvalidInput("api_key.expire_time: it has passed", field="api_key.expire_time")
    user = check_user(message.user, "api_key.user") if message.user else ""
    return ApiKey(
        tenant=tenant,
        digest=digest,
        label=message.label,
        scopes=tuple(names),
        identities=identities_of(user, check_groups(message.groups, "api_key.groups")),
        expires_at_s=expires_at_s,
    )


def parse_key_name(name: str) -> tuple[str, str]:
    """The tenant's name and the key's id."""
    match = _KEY_NAME.fullmatch(name)
    if match is None:
        raise InvalidInput(f'name: expected "tenants/{{tenant}}/apiKeys/{{key}}", got {name[:200]!r}', field="name")
    return match[1], match[2]


def from_tenant(tenant: Tenant, usage: Usage | None = None) -> tenants_pb2.Tenant:
    """A tenant's record."""
    limits = tenant.limits
    return tenants_pb2.Tenant(
        name=f"tenants/{tenant.id}",
        disabled=tenant.disabled,
        limits=tenants_pb2.TenantLimits(
            queries_per_s=limits.queries_per_s,
            documents_per_s=limits.documents_per_s,
            tokens_per_s=limits.tokens_per_s,
            documents_max=limits.documents_max,
            bytes_max=limits.bytes_max,
            weight=limits.weight,
        ),
        create_time=to_timestamp(tenant.created_at_s),
        usage=None
        if usage is None
        else tenants_pb2.TenantUsage(documents=usage.documents, text_bytes=usage.text_bytes),
    )


def from_key(key: ApiKey) -> tenants_pb2.ApiKey:
    """A key's record, without the key."""
    named = [identity.partition(":") for identity in key.identities]
    return tenants_pb2.ApiKey(
        name=f"tenants/{key.tenant}/apiKeys/{key.id}",
        label=key.label,
        scopes=key.scopes,
        user=next((name for kind, _, name in named if kind == "user"), ""),
        groups=[name for kind, _, name in named if kind == "group"],
        expire_time=_optional(key.expires_at_s),
        create_time=to_timestamp(key.created_at_s),
        revoke_time=_optional(key.revoked_at_s),
        last_use_time=_optional(key.last_used_at_s),
    )


def _optional(seconds: float | None) -> Timestamp | None:
    return None if seconds is None else to_timestamp(seconds)


def _rate(message: tenants_pb2.TenantLimits, name: str, prefix: str, most: float) -> float | None:
    if not message.HasField(name):  # pyright: ignore[reportArgumentType] - the stub wants a literal
        return None
    value: float = getattr(message, name)
    if not (math.isfinite(value) and 0 <= value <= most):
        raise InvalidInput(f"{prefix}.{name}: {value}; the limits are 0 to {most:g}", field=f"{prefix}.{name}")
    return value


def _amount(message: tenants_pb2.TenantLimits, name: str, prefix: str) -> int | None:
    if not message.HasField(name):  # pyright: ignore[reportArgumentType] - the stub wants a literal
        return None
    value: int = getattr(message, name)
    if value > AMOUNT_MAX:
        raise InvalidInput(f"{prefix}.{name}: {value}; the limit is {AMOUNT_MAX}", field=f"{prefix}.{name}")
    return value
