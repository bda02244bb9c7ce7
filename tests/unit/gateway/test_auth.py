from pathlib import Path

import pytest
from unit.gateway.conftest import Clock

from gannet_gateway.auth import Anyone, Callers, Tenants, bootstrap, digest_of
from gannet_gateway.config import GatewayConfig
from gannet_gateway.ledger.accounts import Accounts
from gannet_gateway.ledger.engine import Database
from gannet_gateway.tenants.identities import GROUPS_MAX
from gannet_gateway.tenants.records import ApiKey
from gannet_gateway.tenants.scopes import EVERY_SCOPE, NOT_FOR_USERS, Scope
from gannet_service.config import load
from gannet_service.errors import InvalidInput, PermissionDenied, Unauthenticated

KEY = "gnt_0123456789abcdef"


BEARER = {"authorization": f"Bearer {KEY}"}


@pytest.fixture
def accounts(database: Database, ledger: object, clock: Clock) -> Accounts:
    """Accounts of a ledger whose tenant is "acme"."""
    return Accounts(database, clock=clock)


def callers(accounts: Accounts, clock: Clock, cache_s: float = 60) -> Callers:
    """Whoever the ledger knows."""
    return Callers(accounts, Tenants(accounts, cache_s=cache_s), cache_s=cache_s, clock=clock)


@pytest.fixture
async def keys(accounts: Accounts, clock: Clock) -> Callers:
    """Callers of a ledger that knows one key."""
    await accounts.add_key(key())
    return callers(accounts, clock)


def key(**fields: object) -> ApiKey:
    """KEY, which may search."""
    return ApiKey(**{"tenant": "acme", "digest": digest_of(KEY), "label": "test", "scopes": ("search",), **fields})


@pytest.mark.parametrize("header", [f"Bearer {KEY}", f"bearer {KEY} "])
async def test_known_key_is_its_tenant(header: str, keys: Callers):
    """The scheme's case and trailing white space do not count."""
    principal = await keys.authenticate({"authorization": header})
    assert principal.tenant == "acme"
    assert KEY not in repr(principal)


@pytest.mark.parametrize(
    "metadata, reason",
    [
        ({}, "API_KEY_MISSING"),
        ({"authorization": ""}, "API_KEY_MISSING"),
        ({"authorization": "Bearer "}, "API_KEY_MISSING"),
        ({"authorization": f"Basic {KEY}"}, "API_KEY_MISSING"),
        ({"authorization": KEY}, "API_KEY_MISSING"),
        ({"authorization": f"Bearer {KEY}x"}, "API_KEY_UNKNOWN"),
        ({"authorization": "Bearer " + "x" * 201}, "API_KEY_UNKNOWN"),
    ],
)
async def test_other_credentials_are_refused(metadata: dict[str, str], reason: str, keys: Callers):
    """The reason says whether there was a key at all; the key is never repeated."""
    with pytest.raises(Unauthenticated) as caught:
        await keys.authenticate(metadata)
    assert caught.value.reason == reason
    assert KEY not in caught.value.message


async def test_scopes_and_identities_are_the_keys(accounts: Accounts, clock: Clock):
    """A scope that this version does not know counts for nothing."""
    await accounts.add_key(key(scopes=("answer", "search", "telepathy"), identities=("group:eng", "user:ann")))
    principal = await callers(accounts, clock).authenticate(BEARER)
    assert principal.scopes == {Scope.ANSWER, Scope.SEARCH}
    assert principal.identities == ("group:eng", "user:ann")


async def test_key_past_its_time_is_refused_at_once(accounts: Accounts, clock: Clock):
    """Also one that was looked up before it expired."""
    await accounts.add_key(key(expires_at_s=clock.now + 10))
    known = callers(accounts, clock)
    await known.authenticate(BEARER)
    clock.now += 10
    with pytest.raises(Unauthenticated) as caught:
        await known.authenticate(BEARER)
    assert caught.value.reason == "API_KEY_EXPIRED"


async def test_revoked_key_is_unknown(accounts: Accounts, clock: Clock):
    """To whoever looks it up after that; the bootstrap key too, at the next start."""
    made = await accounts.add_key(key())
    await accounts.revoke_key("acme", made.id)
    await accounts.add_key(key())
    with pytest.raises(Unauthenticated) as caught:
        await callers(accounts, clock).authenticate(BEARER)
    assert caught.value.reason == "API_KEY_UNKNOWN"


async def test_tenant_that_is_disabled_is_refused(accounts: Accounts, clock: Clock, keys: Callers):
    """With a key that is valid."""
    await accounts.update_tenant("acme", disabled=True)
    with pytest.raises(PermissionDenied) as caught:
        await keys.authenticate(BEARER)
    assert caught.value.reason == "TENANT_DISABLED"


async def test_use_of_a_key_is_recorded_to_the_hour(accounts: Accounts, clock: Clock):
    """Not with every call, nor with every minute."""
    await accounts.add_key(key())
    used = []
    for passed_s in (0, 1800, 3600):
        clock.now = 1000.0 + passed_s
        fresh = callers(accounts, clock)
        await fresh.authenticate(BEARER)
        await fresh.record_use()
        used.append(round((await accounts.find_key(digest_of(KEY))).last_used_at_s))
    assert used == [1000, 1000, 4600]


async def test_call_for_a_user_reads_as_that_user_alone(accounts: Accounts, clock: Clock):
    """The key's own identities do not count, nor does what reaches beyond a user."""
    await accounts.add_key(key(scopes=tuple(EVERY_SCOPE), identities=("user:backend",)))
    known = callers(accounts, clock)
    principal = await known.authenticate({**BEARER, "gannet-user": "ann", "gannet-groups": "ops, eng,eng"})
    assert principal.identities == ("group:eng", "group:ops", "user:ann")
    assert principal.scopes == EVERY_SCOPE - NOT_FOR_USERS
    assert (await known.authenticate(BEARER)).identities == ("user:backend",)


@pytest.mark.parametrize("metadata", [{"gannet-user": "ann"}, {"gannet-groups": "eng"}])
async def test_key_that_may_not_act_for_users_is_refused_with_one(metadata: dict[str, str], keys: Callers):
    """Rather than answered as somebody else than the caller thinks."""
    with pytest.raises(PermissionDenied, match="'act_as'"):
        await keys.authenticate({**BEARER, **metadata})


@pytest.mark.parametrize(
    "metadata, field",
    [
        ({"gannet-user": ""}, "gannet-user"),
        ({"gannet-user": "ann b"}, "gannet-user"),
        ({"gannet-user": "ann,bob"}, "gannet-user"),
        ({"gannet-user": "x" * 129}, "gannet-user"),
        ({"gannet-groups": "eng"}, "gannet-user"),
        ({"gannet-user": "ann", "gannet-groups": "a,,b"}, "gannet-groups"),
        ({"gannet-user": "ann", "gannet-groups": ",".join(map(str, range(GROUPS_MAX + 1)))}, "gannet-groups"),
    ],
)
async def test_user_who_cannot_be_is_refused(metadata: dict[str, str], field: str):
    """The metadata's key is named."""
    with pytest.raises(InvalidInput) as caught:
        await Anyone("acme").authenticate(metadata)
    assert caught.value.field == field


async def test_anyone_is_the_one_tenant():
    """Authentication switched off; a user may be named all the same."""
    principal = await Anyone("acme").authenticate({})
    assert (principal.tenant, principal.scopes, principal.identities) == ("acme", EVERY_SCOPE, ())
    assert (await Anyone("acme").authenticate({"gannet-user": "ann"})).identities == ("user:ann",)


async def test_bootstrap_without_a_key_makes_the_tenant_known(accounts: Accounts):
    """A gateway without authentication can create collections."""
    await bootstrap(accounts, "fresh", None)
    assert (await accounts.tenant("fresh")).id == "fresh"


async def test_bootstrap_with_a_key_lets_it_in(accounts: Accounts, clock: Clock, tmp_path: Path):
    """At every start again, with every scope there is; white space around the key does not count."""
    (tmp_path / "key").write_text(f"  {KEY}\n")
    await bootstrap(accounts, "fresh", tmp_path / "key")
    await accounts.add_key(key(tenant="fresh"))
    await bootstrap(accounts, "fresh", tmp_path / "key")
    principal = await callers(accounts, clock).authenticate(BEARER)
    assert (principal.tenant, principal.scopes) == ("fresh", EVERY_SCOPE)


@pytest.mark.parametrize("key", ["", "short", "x" * 201])
async def test_bootstrap_with_a_bad_key_is_refused(key: str, accounts: Accounts, tmp_path: Path):
    """A key that could be guessed is none."""
    (tmp_path / "key").write_text(key)
    with pytest.raises(ValueError, match="an API key has 16 to 200 characters"):
        await bootstrap(accounts, "fresh", tmp_path / "key")


def test_qdrant_url_is_read_from_both_variables(monkeypatch: pytest.MonkeyPatch):
    """The well-known one is a default for ours."""
    assert load(GatewayConfig, []).qdrant_url == "http://127.0.0.1:7710"
    monkeypatch.setenv("QDRANT_URL", "http://cluster:6334")
    assert load(GatewayConfig, []).qdrant_url == "http://cluster:6334"
    monkeypatch.setenv("GANNET_GATEWAY_QDRANT_URL", "http://ours:6334")
    assert load(GatewayConfig, []).qdrant_url == "http://ours:6334"
