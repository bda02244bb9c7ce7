from typing import Any

import pytest
from unit.gateway.conftest import Clock
from unit.gateway.fakes import COLLECTION, published

from gannet_gateway.ledger.accounts import Accounts
from gannet_gateway.ledger.engine import Database
from gannet_gateway.ledger.journal import Journal
from gannet_gateway.ledger.ledger import Ledger
from gannet_gateway.ledger.schema import EARLIER_SCOPES
from gannet_gateway.tenants.records import ApiKey, Limits, Tenant, Usage
from gannet_service.errors import AlreadyExists, Conflict, NotFound

LIMITS = Limits(queries_per_s=2.5, documents_max=2**40, weight=3.0)


@pytest.fixture
def accounts(database: Database, ledger: Ledger, clock: Clock) -> Accounts:
    """Accounts of a ledger with the tenant "acme", which has a collection."""
    return Accounts(database, clock=clock)


def key(**fields: Any) -> ApiKey:
    """A key of "acme"."""
    return ApiKey(**{"tenant": "acme", "digest": "d" * 64, "label": "x", "scopes": ("search",), **fields})


async def test_tenant_created_is_read_back_with_its_limits(accounts: Accounts):
    """A limit that was not given is none of the tenant's; its name is taken then."""
    made = await accounts.create_tenant(Tenant(id="other", limits=LIMITS))
    assert (await accounts.tenant("other"), made.limits, made.disabled) == (made, LIMITS, False)
    with pytest.raises(AlreadyExists):
        await accounts.create_tenant(Tenant(id="other"))


async def test_tenant_updated_keeps_what_is_not_given(accounts: Accounts):
    """Limits are replaced as a whole."""
    await accounts.update_tenant("acme", limits=LIMITS)
    updated = await accounts.update_tenant("acme", disabled=True)
    assert (updated.limits, updated.disabled) == (LIMITS, True)
    assert (await accounts.update_tenant("acme", limits=Limits())).limits == Limits()
    with pytest.raises(NotFound):
        await accounts.update_tenant("nobody", disabled=True)


async def test_tenants_are_listed_in_pages(accounts: Accounts):
    """In the order of their ids."""
    for name in ("c", "b"):
        await accounts.create_tenant(Tenant(id=name))
    first = await accounts.list_tenants(after="", limit=2)
    last = await accounts.list_tenants(after=first.next_after or "", limit=2)
    assert [[tenant.id for tenant in page.items] for page in (first, last)] == [["acme", "b"], ["c"]]
    assert last.next_after is None


async def test_tenant_is_deleted_with_its_keys_once_it_is_empty(accounts: Accounts):
    """Not while it has a collection."""
    with pytest.raises(Conflict) as caught:
        await accounts.delete_tenant("acme")
    assert caught.value.reason == "TENANT_NOT_EMPTY"
    await accounts.create_tenant(Tenant(id="other"))
    await accounts.add_key(key(tenant="other"))
    await accounts.delete_tenant("other")
    assert await accounts.find_key("d" * 64) is None
    with pytest.raises(NotFound):
        await accounts.delete_tenant("other")


async def test_usage_counts_live_documents(accounts: Accounts, journal: Journal):
    """Not their earlier revisions, and nobody else's documents."""
    for _ in range(2):
        await published(journal, COLLECTION.document("a.md"), COLLECTION.document("b.md"))
    assert await accounts.usage("acme") == Usage(documents=2, text_bytes=6)
    assert await accounts.usage("other") == Usage(documents=0, text_bytes=0)


async def test_key_is_read_back_as_it_was_made(accounts: Accounts):
    """By its digest; of another digest there is none."""
    made = await accounts.add_key(key(identities=("group:eng", "user:ann"), expires_at_s=5.5))
    assert await accounts.find_key("d" * 64) == made
    assert (made.scopes, made.identities, made.expires_at_s) == (("search",), ("group:eng", "user:ann"), 5.5)
    assert await accounts.find_key("e" * 64) is None


async def test_key_of_a_tenant_that_is_not_there_is_not_found(accounts: Accounts):
    """Nor can a key change hands."""
    with pytest.raises(NotFound):
        await accounts.add_key(key(tenant="nobody"))
    await accounts.create_tenant(Tenant(id="other"))
    await accounts.add_key(key())
    with pytest.raises(AlreadyExists):
        await accounts.add_key(key(tenant="other"))


async def test_key_from_before_there_were_scopes_may_what_it_could(accounts: Accounts, ledger: Ledger):
    """The migration gives such keys the same."""
    await ledger.add_api_key("acme", "d1", "old")
    found = await accounts.find_key("d1")
    assert found is not None
    assert str(list(found.scopes)).replace("'", '"') == EARLIER_SCOPES


async def test_keys_are_listed_in_pages(accounts: Accounts):
    """The tenant's, revoked ones too."""
    await accounts.create_tenant(Tenant(id="other"))
    made = [await accounts.add_key(key(digest=letter * 64)) for letter in "abc"]
    await accounts.add_key(key(tenant="other", digest="f" * 64))
    await accounts.revoke_key("acme", made[0].id)
    first = await accounts.list_keys("acme", after="", limit=2)
    last = await accounts.list_keys("acme", after=first.next_after or "", limit=2)
    assert [each.digest[0] for page in (first, last) for each in page.items] == ["a", "b", "c"]


async def test_key_is_revoked_once_and_by_its_tenant(accounts: Accounts):
    """A second time changes nothing."""
    made = await accounts.add_key(key())
    await accounts.create_tenant(Tenant(id="other"))
    for tenant, key_id in (("other", made.id), ("acme", "0" * 16)):
        with pytest.raises(NotFound):
            await accounts.revoke_key(tenant, key_id)
    revoked = await accounts.revoke_key("acme", made.id)
    assert revoked.revoked_at_s is not None
    assert await accounts.revoke_key("acme", made.id) == revoked
