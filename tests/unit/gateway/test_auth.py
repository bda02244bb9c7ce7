from pathlib import Path

import pytest

from gannet_gateway.auth import Anyone, ApiKeys, bootstrap, digest_of
from gannet_gateway.config import GatewayConfig
from gannet_gateway.ledger.ledger import Ledger
from gannet_service.config import load
from gannet_service.errors import Unauthenticated

KEY = "gnt_0123456789abcdef"


@pytest.fixture
async def keys(ledger: Ledger) -> ApiKeys:
    """Keys of a ledger that knows one."""
    await ledger.add_api_key("acme", digest_of(KEY), "test")
    return ApiKeys(ledger, cache_s=60)


@pytest.mark.parametrize("header", [f"Bearer {KEY}", f"bearer {KEY} "])
async def test_known_key_is_its_tenant(header: str, keys: ApiKeys):
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
async def test_other_credentials_are_refused(metadata: dict[str, str], reason: str, keys: ApiKeys):
    """The reason says whether there was a key at all; the key is never repeated."""
    with pytest.raises(Unauthenticated) as caught:
        await keys.authenticate(metadata)
    assert caught.value.reason == reason
    assert KEY not in caught.value.message


async def test_anyone_is_the_one_tenant():
    """Authentication switched off."""
    assert (await Anyone("acme").authenticate({})).tenant == "acme"


async def test_bootstrap_without_a_key_makes_the_tenant_known(ledger: Ledger):
    """A gateway without authentication can create collections."""
    await bootstrap(ledger, "fresh", None)
    await ledger.add_api_key("fresh", "d", "the tenant exists")


async def test_bootstrap_with_a_key_lets_it_in(ledger: Ledger, tmp_path: Path):
    """At every start again; white space around the key does not count."""
    (tmp_path / "key").write_text(f"  {KEY}\n")
    for _ in range(2):
        await bootstrap(ledger, "fresh", tmp_path / "key")
    assert (await ApiKeys(ledger, cache_s=0).authenticate({"authorization": f"Bearer {KEY}"})).tenant == "fresh"


@pytest.mark.parametrize("key", ["", "short", "x" * 201])
async def test_bootstrap_with_a_bad_key_is_refused(key: str, ledger: Ledger, tmp_path: Path):
    """A key that could be guessed is none."""
    (tmp_path / "key").write_text(key)
    with pytest.raises(ValueError, match="an API key has 16 to 200 characters"):
        await bootstrap(ledger, "fresh", tmp_path / "key")


def test_qdrant_url_is_read_from_both_variables(monkeypatch: pytest.MonkeyPatch):
    """The well-known one is a default for ours."""
    assert load(GatewayConfig, []).qdrant_url == "http://127.0.0.1:7710"
    monkeypatch.setenv("QDRANT_URL", "http://cluster:6334")
    assert load(GatewayConfig, []).qdrant_url == "http://cluster:6334"
    monkeypatch.setenv("GANNET_GATEWAY_QDRANT_URL", "http://ours:6334")
    assert load(GatewayConfig, []).qdrant_url == "http://ours:6334"
