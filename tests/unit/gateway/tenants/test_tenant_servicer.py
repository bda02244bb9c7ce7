import json
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from unit.gateway.conftest import Clock

from gannet.gateway.v1 import tenants_pb2 as pb
from gannet_gateway.auth import digest_of
from gannet_gateway.ledger.accounts import Accounts
from gannet_gateway.ledger.engine import Database
from gannet_gateway.ledger.ledger import Ledger
from gannet_gateway.tenants.scopes import EVERY_SCOPE, Scope
from gannet_gateway.tenants.servicer import TenantServicer
from gannet_service import call
from gannet_service.call import Call, Principal
from gannet_service.errors import InvalidInput, PermissionDenied

LIMITS = {"queries_per_s": 0.5, "documents_max": 7, "weight": 2.0}


@pytest.fixture
def accounts(database: Database, ledger: Ledger, clock: Clock) -> Accounts:
    """Accounts of a ledger with the tenant "acme"."""
    return Accounts(database, clock=clock)


@pytest.fixture
def servicer(accounts: Accounts, clock: Clock) -> TenantServicer:
    """Called by an operator of the tenant "acme"."""
    act(*EVERY_SCOPE)
    return TenantServicer(accounts, clock=clock)


def act(*scopes: Scope, identities: tuple[str, ...] = ()) -> None:
    """Call from now on as somebody of "acme" with these scopes."""
    principal = Principal(tenant="acme", credential="k", scopes=frozenset(scopes), identities=identities)
    call.set_current(Call(method="test", request_id="r", deadline=None, principal=principal))


def wanted(parent: str = "tenants/-", **fields: Any) -> pb.CreateApiKeyRequest:
    """A key that may search."""
    return pb.CreateApiKeyRequest(parent=parent, api_key=pb.ApiKey(**{"scopes": ["search"], **fields}))


async def test_tenant_is_made_changed_listed_and_deleted(servicer: TenantServicer):
    """A mask without limits leaves them; GetTenant counts what is used."""
    tenant = pb.Tenant(limits=pb.TenantLimits(**LIMITS))
    made = await servicer.CreateTenant(pb.CreateTenantRequest(tenant_id="other", tenant=tenant), None)
    assert (made.name, made.limits) == ("tenants/other", pb.TenantLimits(**LIMITS))
    mask = FieldMask(paths=["disabled"])
    changed = pb.UpdateTenantRequest(tenant=pb.Tenant(name="tenants/other", disabled=True), update_mask=mask)
    updated = await servicer.UpdateTenant(changed, None)
    assert (updated.disabled, updated.limits) == (True, made.limits)
    found = await servicer.GetTenant(pb.GetTenantRequest(name="tenants/other"), None)
    assert (found.HasField("usage"), found.usage.documents) == (True, 0)
    first = await servicer.ListTenants(pb.ListTenantsRequest(page_size=1), None)
    last = await servicer.ListTenants(pb.ListTenantsRequest(page_token=first.next_page_token), None)
    assert [item.name for page in (first, last) for item in page.tenants] == ["tenants/acme", "tenants/other"]
    await servicer.DeleteTenant(pb.DeleteTenantRequest(name="tenants/other"), None)
    assert len((await servicer.ListTenants(pb.ListTenantsRequest(), None)).tenants) == 1


async def test_key_is_shown_once_and_stored_as_its_digest(servicer: TenantServicer, accounts: Accounts):
    """What the ledger holds gives no key away."""
    expires = Timestamp(seconds=5000)
    made = await servicer.CreateApiKey(wanted(label="ci", user="ann", groups=["eng"], expire_time=expires), None)
    stored = await accounts.find_key(digest_of(made.secret))
    assert stored is not None
    assert stored.expires_at_s == 5000
    assert made.secret not in json.dumps([repr(stored), str(made.api_key)])
    listed = await servicer.ListApiKeys(pb.ListApiKeysRequest(parent="tenants/-"), None)
    assert list(listed.api_keys) == [made.api_key]
    assert (made.api_key.user, list(made.api_key.groups), list(made.api_key.scopes)) == ("ann", ["eng"], ["search"])
    revoked = await servicer.RevokeApiKey(pb.RevokeApiKeyRequest(name=made.api_key.name), None)
    assert revoked.HasField("revoke_time")


async def test_two_keys_are_never_the_same(servicer: TenantServicer):
    """They are drawn at random."""
    secrets = {(await servicer.CreateApiKey(wanted(), None)).secret for _ in range(3)}
    assert len(secrets) == 3


async def test_nobody_gives_a_scope_that_they_lack(servicer: TenantServicer):
    """The missing scope is named."""
    act(Scope.KEYS, Scope.SEARCH)
    await servicer.CreateApiKey(wanted(), None)
    with pytest.raises(PermissionDenied, match="'admin'"):
        await servicer.CreateApiKey(wanted(scopes=["search", "admin"]), None)


async def test_nobody_makes_a_key_for_somebody_else(servicer: TenantServicer):
    """Their own user and groups they may give, and any with `act_as`."""
    act(Scope.KEYS, Scope.SEARCH, identities=("group:eng", "user:ann"))
    await servicer.CreateApiKey(wanted(user="ann", groups=["eng"]), None)
    for foreign in ({"user": "bob"}, {"user": "ann", "groups": ["eng", "ops"]}):
        with pytest.raises(PermissionDenied, match="'act_as'"):
            await servicer.CreateApiKey(wanted(**foreign), None)
    act(Scope.KEYS, Scope.SEARCH, Scope.ACT_AS)
    await servicer.CreateApiKey(wanted(user="bob"), None)


async def test_other_tenants_are_the_operators(servicer: TenantServicer):
    """Whoever is not one is told which scope is missing, whether the tenant exists or not."""
    await servicer.CreateTenant(pb.CreateTenantRequest(tenant_id="other"), None)
    key = (await servicer.CreateApiKey(wanted("tenants/other"), None)).api_key
    assert key.name.startswith("tenants/other/apiKeys/")
    act(*(EVERY_SCOPE - {Scope.ADMIN}))
    for tenant in ("other", "nobody"):
        for refused in (
            servicer.GetTenant(pb.GetTenantRequest(name=f"tenants/{tenant}"), None),
            servicer.CreateApiKey(wanted(f"tenants/{tenant}"), None),
            servicer.ListApiKeys(pb.ListApiKeysRequest(parent=f"tenants/{tenant}"), None),
            servicer.RevokeApiKey(pb.RevokeApiKeyRequest(name=f"tenants/{tenant}/apiKeys/{key.name[-16:]}"), None),
        ):
            with pytest.raises(PermissionDenied, match="'admin'"):
                await refused


@pytest.mark.parametrize(
    "fields, field",
    [
        ({"scopes": []}, "api_key.scopes"),
        ({"scopes": ["search", "everything"]}, "api_key.scopes"),
        ({"label": "x" * 201}, "api_key.label"),
        ({"label": "a\nb"}, "api_key.label"),
        ({"user": "ann b"}, "api_key.user"),
        ({"groups": [""]}, "api_key.groups"),
        ({"expire_time": Timestamp(seconds=1)}, "api_key.expire_time"),
    ],
)
async def test_key_that_cannot_be_is_refused(fields: dict[str, Any], field: str, servicer: TenantServicer):
    """The field is named."""
    with pytest.raises(InvalidInput) as caught:
        await servicer.CreateApiKey(wanted(**fields), None)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "limits, name",
    [
        ({"queries_per_s": -1.0}, "queries_per_s"),
        ({"documents_per_s": float("nan")}, "documents_per_s"),
        ({"tokens_per_s": 1e10}, "tokens_per_s"),
        ({"documents_max": 2**53 + 1}, "documents_max"),
        ({"weight": 0.001}, "weight"),
    ],
)
async def test_limit_that_cannot_be_is_refused(limits: dict[str, Any], name: str, servicer: TenantServicer):
    """The field and its bounds are named."""
    tenant = pb.Tenant(name="tenants/acme", limits=pb.TenantLimits(**limits))
    with pytest.raises(InvalidInput) as caught:
        await servicer.UpdateTenant(pb.UpdateTenantRequest(tenant=tenant), None)
    assert caught.value.field == f"tenant.limits.{name}"
