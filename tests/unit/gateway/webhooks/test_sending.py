"""Where webhooks may lead, who is on the other side, and how a post is signed."""

import ipaddress
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fakes.receiver import Receiver
from unit.gateway.fakes import COLLECTION
from unit.gateway.webhooks.conftest import SECRET

from gannet.gateway.v1 import webhooks_pb2
from gannet_gateway.ledger.deliveries import Attempt
from gannet_gateway.names import DeliveryName, WebhookName
from gannet_gateway.webhooks import signing, wire
from gannet_gateway.webhooks.addresses import Addresses
from gannet_gateway.webhooks.sender import Sender
from gannet_gateway.webhooks.undelivered import Undelivered
from gannet_service.errors import InvalidInput

NAME = WebhookName(COLLECTION.tenant, COLLECTION.collection, "hook")
NOBODY = "127.0.0.2"


def attempt(url: str) -> Attempt:
    """An attempt at an event."""
    name = DeliveryName(NAME, "e" * 32)
    return Attempt(
        delivery=1, name=name, holder="h", number=1, queued_at_s=0, url=url, receiver="", body="{}", secret=SECRET
    )


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"],
)
def test_public_address_is_allowed(address: str):
    """Also one that leads to a public IPv4 address."""
    assert Addresses([]).allows(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        *(
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
        ),
        *("240.0.0.1", "255.255.255.255", "198.18.0.1", "::1", "::", "fe80::1", "fc00::1", "ff02::1", "2001:db8::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2002:a9fe:a9fe::", "::7f00:1"),
        *("64:ff9b:1::1", "2001:0:102:304:0:0:80ff:fffe"),
    ],
)
def test_address_that_is_not_public_is_refused_unless_opened(address: str):
    """In every spelling; a network that the operator has named is open."""
    parsed = ipaddress.ip_address(address)
    assert not Addresses([]).allows(parsed)
    assert Addresses([ipaddress.ip_network(f"{address}/{parsed.max_prefixlen}")]).allows(parsed)


@pytest.mark.parametrize(
    "url",
    [
        *("", "a.example", "ftp://a.example/", "file:///etc/passwd", "http://", "http:///x", "http://u:p@a.example/"),
        *("http://a.example/#x", "http://a.example/#", "http://a.example:0/", "http://a.example:99999/"),
        *("http://a b/", "http://a.example\\@b/", "http://ž.example/", "http://a.example/\n", "http://[::1/"),
        f"http://a.example/{'x' * 2048}",
        f"http://{'x' * 254}/",
    ],
)
def test_url_that_is_none_is_refused_by_name(url: str):
    """One that clients could read in two ways, too."""
    with pytest.raises(InvalidInput) as caught:
        wire.to_webhook(webhooks_pb2.Webhook(url=url), NAME, Addresses([]))
    assert caught.value.field == "webhook.url"


def test_address_that_will_never_be_connected_to_is_refused_at_once():
    """Where it can be seen without asking a name server."""
    for host in ("127.0.0.1", "[::1]", "169.254.169.254"):
        with pytest.raises(InvalidInput) as caught:
            wire.to_webhook(webhooks_pb2.Webhook(url=f"http://{host}/"), NAME, Addresses([]))
        assert caught.value.reason == "ADDRESS_NOT_ALLOWED"
    opened = Addresses([ipaddress.ip_network("127.0.0.0/8")])
    assert wire.to_place("http://127.0.0.1/", opened) == ("http://127.0.0.1/", "http://127.0.0.1:80")
    assert wire.to_place("HTTPS://A.example/x?y", opened) == ("HTTPS://A.example/x?y", "https://a.example:443")


def test_signature_is_that_of_the_convention():
    """The example that Standard Webhooks libraries are tested with."""
    body = b'{"test": 2432232314}'
    assert signing.headers(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body) == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@pytest.mark.parametrize(
    "secret", ["x", "whsec_", "whsec_c2hvcnQ=", "whsec_!!!", SECRET.removeprefix("whsec_"), f"{SECRET}ž"]
)
def test_secret_that_cannot_sign_is_refused_without_being_quoted(secret: str):
    """Its length and its form are said."""
    with pytest.raises(InvalidInput) as caught:
        signing.check_secret(secret, "secret")
    assert caught.value.message == 'secret: expected "whsec_" and 24 to 64 bytes in base64'


def test_made_secret_can_sign_and_is_new():
    """Whoever names none gets one."""
    made = {signing.new_secret() for _ in range(10)}
    assert {signing.check_secret(secret, "secret") for secret in made} == made
    assert len(made) == 10


@pytest.fixture
def tls(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's side with a certificate for receiver.example, and a client's that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "receiver.example")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("receiver.example")]), critical=False)
    certificate = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "server.pem").write_bytes(private + certificate)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "server.pem")
    return server, ssl.create_default_context(cadata=certificate.decode())


@pytest.fixture
def resolves(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Every host name leads to these addresses."""

    def to(*addresses: str) -> None:
        def getaddrinfo(_host: str, port: int, **_options: Any) -> list[Any]:
            return [(2, 1, 6, "", (address, port)) for address in addresses]

        monkeypatch.setattr("gannet_gateway.webhooks.addresses.socket.getaddrinfo", getaddrinfo)

    return to


async def send(url: str, tls: ssl.SSLContext | None = None, network: str = "127.0.0.0/8") -> int:
    """One post."""
    addresses = Addresses([ipaddress.ip_network(network)])
    transport = httpx.AsyncHTTPTransport(verify=tls or ssl.create_default_context(), trust_env=False)
    try:
        return await Sender(addresses, transport, timeout_s=30, clock=lambda: 1.0).send(attempt(url))
    finally:
        await transport.aclose()
        addresses.close()


async def test_certificate_is_checked_against_the_name_and_not_the_address(
    tls: tuple[ssl.SSLContext, ssl.SSLContext], resolves: Callable[..., None]
):
    """The connection goes to the checked address; a receiver that is not who the url says gets nothing."""
    resolves("127.0.0.1")
    async with Receiver.open(tls[0]) as receiver:
        assert await send(f"https://receiver.example:{receiver.port}/x", tls[1]) == 204
        assert receiver.posts[0].headers["host"] == f"receiver.example:{receiver.port}"
        for name in ("other.example", "127.0.0.1"):
            with pytest.raises(Undelivered, match=r"ConnectError.*certificate"):
                await send(f"https://{name}:{receiver.port}/x", tls[1])
        assert len(receiver.posts) == 1


async def test_address_that_does_not_answer_is_followed_by_the_next(resolves: Callable[..., None]):
    """As long as nothing was sent; of several addresses those that are not allowed are left out."""
    async with Receiver.open() as receiver:
        resolves("10.0.0.1", NOBODY, "127.0.0.1")
        assert await send(f"http://receiver.example:{receiver.port}/") == 204
        assert receiver.connections == 1
        resolves("127.0.0.1")
        with pytest.raises(Undelivered, match="not public"):
            await send(f"http://receiver.example:{receiver.port}/", network=f"{NOBODY}/32")
        assert receiver.connections == 1
