"""Tokens of an issuer that listens on loopback, and of those who would like to be it."""

import asyncio
import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import jwt.algorithms
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from unit.gateway.conftest import Clock

from gannet_gateway.tenants import jwks
from gannet_gateway.tenants.identities import GROUPS_MAX
from gannet_gateway.tenants.jwks import KeySet, from_file, from_url
from gannet_gateway.tenants.oidc import Claims, Issuer
from gannet_gateway.tenants.scopes import EVERY_SCOPE, NOT_FOR_USERS, Scope
from gannet_service.errors import DependencyUnavailable, GannetError, PermissionDenied, Unauthenticated

AUDIENCE = "gannet"
CLAIMS = Claims(
    tenant="https://gannet.example/tenant",
    tenant_fixed="",
    user="sub",
    groups="realm.groups",
    scopes="scope",
    scopes_default=frozenset({Scope.SEARCH}),
    scopes_allowed=EVERY_SCOPE - NOT_FOR_USERS,
)
# Drawn once: an RSA key takes a while.
RSA_KEYS = {name: rsa.generate_private_key(public_exponent=65537, key_size=2048) for name in ("one", "two")}
EC_KEY = ec.generate_private_key(ec.SECP256R1())
WEAK_KEY = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - that it is refused is the test


def jwk(kid: str, key: Any) -> dict[str, Any]:
    """A public key as an issuer lists it."""
    algorithm = (
        jwt.algorithms.ECAlgorithm if isinstance(key, ec.EllipticCurvePrivateKey) else jwt.algorithms.RSAAlgorithm
    )
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig"}


class LoopbackIssuer:
    """Answers as an issuer; `keys` can change, `open` holds its answers back while it is clear."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = [jwk("one", RSA_KEYS["one"]), jwk("ec", EC_KEY)]
        self.status = 200
        self.named: str | None = None
        self.open = threading.Event()
        self.open.set()
        self.fetches = 0
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.open.wait(20)
                if self.path == "/.well-known/openid-configuration":
                    name = issuer.named or issuer.name
                    document: Any = {"issuer": name, "jwks_uri": f"{issuer.name}/keys"}
                else:
                    issuer.fetches += 1
                    document = {"keys": issuer.keys}
                body = json.dumps(document).encode()
                self.send_response(issuer.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: object) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.name = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def stop(self) -> None:
        """Listen no more."""
        self.open.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def token(self, *, kid: str = "one", key: Any = None, algorithm: str = "RS256", **claims: Any) -> str:
        """A token of this issuer for Ann of "acme"; claims that are None are left out."""
        said = {
            "iss": self.name,
            "aud": AUDIENCE,
            "exp": time.time() + 60,
            "sub": "ann",
            "https://gannet.example/tenant": "acme",
            **claims,
        }
        kept = {name: value for name, value in said.items() if value is not None}
        return jwt.encode(kept, key or RSA_KEYS["one"], algorithm=algorithm, headers={"kid": kid})


@pytest.fixture
def loopback() -> Iterator[LoopbackIssuer]:
    """An issuer."""
    server = LoopbackIssuer()
    yield server
    server.stop()


@pytest.fixture
async def issuer(loopback: LoopbackIssuer, clock: Clock) -> AsyncIterator[Issuer]:
    """What the gateway knows of it: nothing yet."""
    opened = checker(loopback, clock)
    yield opened
    await opened.close()


def checker(loopback: LoopbackIssuer, clock: Clock, **claims: Any) -> Issuer:
    """Checks its tokens; keys are fetched at most every 10 seconds, and after an hour again."""
    fetch = from_url(loopback.name, "", timeout_s=10)
    keys = KeySet(fetch, refresh_s=3600, pause_s=10, clock=clock)
    names = {name: getattr(CLAIMS, name) for name in Claims.__dataclass_fields__} | claims
    return Issuer(loopback.name, AUDIENCE, keys, Claims(**names), leeway_s=5)


async def refused(issuer: Issuer, token: str) -> GannetError:
    """What a token is refused with."""
    with pytest.raises(GannetError) as caught:
        await issuer.principal(token)
    return caught.value


async def test_token_becomes_its_user(issuer: Issuer, loopback: LoopbackIssuer):
    """Tenant, user, groups and scopes by the names that are configured; what no reader can be called opens nothing."""
    token = loopback.token(realm={"groups": ["eng", "Domain Users", "eng"]}, scope="openid search documents.read admin")
    principal = await issuer.principal(token)
    assert (principal.tenant, principal.identities) == ("acme", ("group:eng", "user:ann"))
    assert principal.scopes == {Scope.SEARCH, Scope.DOCUMENTS_READ}
    assert issuer.claims(token)
    assert not issuer.claims("gnt_0123456789abcdef")
    assert (await issuer.principal(loopback.token())).scopes == {Scope.SEARCH}
    assert (await issuer.principal(loopback.token(scope=["answer"]))).scopes == {Scope.ANSWER}
    assert (await issuer.principal(loopback.token(scope=""))).scopes == frozenset()


async def test_tokens_of_either_algorithm_are_accepted(issuer: Issuer, loopback: LoopbackIssuer):
    """RS256 and ES256, each with a key of its kind."""
    await issuer.principal(loopback.token())
    await issuer.principal(loopback.token(kid="ec", key=EC_KEY, algorithm="ES256"))


async def test_tenant_may_be_one_for_all(loopback: LoopbackIssuer, clock: Clock):
    """Whatever a token says of it."""
    fixed = checker(loopback, clock, tenant_fixed="only")
    assert (await fixed.principal(loopback.token())).tenant == "only"
    await fixed.close()


@pytest.mark.parametrize(
    "claims, reason",
    [
        ({"exp": 1}, "TOKEN_EXPIRED"),
        ({"exp": None}, "TOKEN_INVALID"),
        ({"nbf": 2**33}, "TOKEN_INVALID"),
        ({"aud": "another"}, "TOKEN_INVALID"),
        ({"aud": None}, "TOKEN_INVALID"),
        ({"iss": "https://evil.example"}, "TOKEN_INVALID"),
        ({"iss": None}, "TOKEN_INVALID"),
        ({"key": RSA_KEYS["two"]}, "TOKEN_INVALID"),
        ({"kid": "ec"}, "TOKEN_INVALID"),
        ({"kid": "unheard-of"}, "TOKEN_KEY_UNKNOWN"),
        ({"algorithm": "RS512"}, "TOKEN_INVALID"),
        ({"algorithm": "PS256"}, "TOKEN_INVALID"),
        ({"padding": "x" * 9000}, "TOKEN_INVALID"),
    ],
)
async def test_bad_token_is_refused(claims: dict[str, Any], reason: str, issuer: Issuer, loopback: LoopbackIssuer):
    """Expired, not yet good, for somebody else, by somebody else, by another key, or in another way."""
    error = await refused(issuer, loopback.token(**claims))
    assert (type(error), error.reason) == (Unauthenticated, reason)


async def test_token_that_has_just_expired_is_within_the_leeway(issuer: Issuer, loopback: LoopbackIssuer):
    """Clocks differ."""
    await issuer.principal(loopback.token(exp=time.time() - 2))


def forged(header: dict[str, str], claims: dict[str, Any], key: bytes | None) -> str:
    """A token that no library would make."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    signed = b".".join(parts)
    signature = b"" if key is None else hmac.new(key, signed, hashlib.sha256).digest()
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


async def test_unsigned_token_and_one_signed_with_the_public_key_are_refused(issuer: Issuer, loopback: LoopbackIssuer):
    """The two classic forgeries: no algorithm, and the public key taken for a secret."""
    claims = jwt.decode(loopback.token(), options={"verify_signature": False})
    public = RSA_KEYS["one"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for header, key in (({"alg": "none"}, None), ({"alg": "HS256"}, public), ({"alg": "RS256"}, public)):
        error = await refused(issuer, forged({"typ": "JWT", "kid": "one", **header}, claims, key))
        assert (type(error), error.reason) == (Unauthenticated, "TOKEN_INVALID")


@pytest.mark.parametrize("token", ["eyJ.eyJ.x", "eyJhbGciOiJSUzI1NiJ9.e30.x", "eyJ..", "eyJ\x00.a.b"])
async def test_broken_token_is_refused(token: str, issuer: Issuer):
    """Before any key is looked for."""
    assert (await refused(issuer, token)).reason == "TOKEN_INVALID"


@pytest.mark.parametrize(
    "claims",
    [
        {"https://gannet.example/tenant": None},
        {"https://gannet.example/tenant": 7},
        {"sub": None},
        {"sub": "ann b"},
        {"realm": {"groups": [f"g{number}" for number in range(GROUPS_MAX + 1)]}},
    ],
)
async def test_token_that_does_not_say_for_whom_is_denied(
    claims: dict[str, Any], issuer: Issuer, loopback: LoopbackIssuer
):
    """A good one all the same; the claim is named."""
    error = await refused(issuer, loopback.token(**claims))
    assert (type(error), error.reason) == (PermissionDenied, "TOKEN_CLAIMS")


async def test_keys_that_cannot_be_trusted_are_passed_over(loopback: LoopbackIssuer, issuer: Issuer):
    """Secrets, short keys, keys for encryption, and what is no key; the good one among them is taken."""
    secret = {"kty": "oct", "kid": "secret", "k": base64.urlsafe_b64encode(b"s" * 32).decode(), "alg": "HS256"}
    for_encryption = {**jwk("enc", RSA_KEYS["two"]), "use": "enc"}
    loopback.keys = [secret, jwk("weak", WEAK_KEY), for_encryption, {"kid": "x"}, 7, jwk("one", RSA_KEYS["one"])]  # type: ignore[list-item]
    await issuer.principal(loopback.token())
    for kid, key in (("weak", WEAK_KEY), ("enc", RSA_KEYS["two"])):
        error = await refused(
            issuer,
            forged({"alg": "RS256", "kid": kid}, {}, b"k") if kid == "weak" else loopback.token(kid=kid, key=key),
        )
        assert error.reason == "TOKEN_KEY_UNKNOWN"
    error = await refused(issuer, forged({"alg": "HS256", "kid": "secret"}, {}, b"s" * 32))
    assert error.reason == "TOKEN_INVALID"


async def test_rotated_key_is_fetched_when_it_is_first_seen(issuer: Issuer, loopback: LoopbackIssuer, clock: Clock):
    """Once in a while, whatever unknown keys are named meanwhile; a key that is withdrawn is good no longer."""
    await issuer.principal(loopback.token())
    loopback.keys = [jwk("two", RSA_KEYS["two"])]
    for _ in range(5):
        assert (await refused(issuer, loopback.token(kid="two", key=RSA_KEYS["two"]))).reason == "TOKEN_KEY_UNKNOWN"
    assert loopback.fetches == 1
    clock.now += 10
    await issuer.principal(loopback.token(kid="two", key=RSA_KEYS["two"]))
    assert loopback.fetches == 2
    assert (await refused(issuer, loopback.token())).reason == "TOKEN_KEY_UNKNOWN"


async def test_slow_issuer_keeps_nobody_waiting_whose_key_is_known(
    issuer: Issuer, loopback: LoopbackIssuer, clock: Clock
):
    """Those with an unknown key wait, together; the others go on, also when it is time to fetch again."""
    await issuer.principal(loopback.token())
    loopback.open.clear()
    clock.now += 3600
    await issuer.principal(loopback.token())
    waiting = [asyncio.create_task(refused(issuer, loopback.token(kid="new"))) for _ in range(3)]
    await asyncio.sleep(0)
    await issuer.principal(loopback.token())
    assert not any(task.done() for task in waiting)
    loopback.open.set()
    assert {error.reason for error in await asyncio.gather(*waiting)} == {"TOKEN_KEY_UNKNOWN"}
    assert loopback.fetches == 2


async def test_few_calls_wait_for_a_slow_issuer(
    issuer: Issuer, loopback: LoopbackIssuer, monkeypatch: pytest.MonkeyPatch
):
    """A flood of made-up keys is told to come again."""
    monkeypatch.setattr(jwks, "WAITING_MAX", 2)
    loopback.open.clear()
    waiting = [asyncio.create_task(refused(issuer, loopback.token(kid="new"))) for _ in range(2)]
    await asyncio.sleep(0)
    error = await refused(issuer, loopback.token(kid="newer"))
    assert (type(error), error.reason) == (DependencyUnavailable, "TOKEN_KEYS_UNAVAILABLE")
    loopback.open.set()
    await asyncio.gather(*waiting)


async def test_issuer_that_is_down_lets_known_keys_in(issuer: Issuer, loopback: LoopbackIssuer, clock: Clock):
    """Whoever needs another is told that it is not their fault."""
    await issuer.principal(loopback.token())
    loopback.status = 500
    clock.now += 3600
    assert (await refused(issuer, loopback.token(kid="two", key=RSA_KEYS["two"]))).reason == "TOKEN_KEYS_UNAVAILABLE"
    await issuer.principal(loopback.token())


@pytest.mark.parametrize("problem", ["status", "named", "keys"])
async def test_issuer_that_cannot_be_understood_is_unavailable(problem: str, issuer: Issuer, loopback: LoopbackIssuer):
    """An error page, another issuer's document, no list of keys."""
    broken: dict[str, Any] = {"status": 404, "named": "https://evil.example", "keys": None}
    setattr(loopback, problem, broken[problem])
    error = await refused(issuer, loopback.token())
    assert (type(error), error.reason) == (DependencyUnavailable, "TOKEN_KEYS_UNAVAILABLE")


async def test_issuer_that_does_not_listen_is_unavailable(clock: Clock, tmp_path: Path):
    """Nor is a file of keys that is not there."""
    for fetch in (from_url("http://127.0.0.1:1", "", timeout_s=5), from_file(tmp_path / "keys.json")):
        keys = KeySet(fetch, refresh_s=3600, pause_s=10, clock=clock)
        with pytest.raises(DependencyUnavailable):
            await keys.key("one")


async def test_keys_may_lie_in_a_file(clock: Clock, tmp_path: Path):
    """Which is read again like any issuer."""
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": [jwk("one", RSA_KEYS["one"])]}))
    keys = KeySet(from_file(file), refresh_s=3600, pause_s=10, clock=clock)
    assert (await keys.key("one")).key_id == "one"
