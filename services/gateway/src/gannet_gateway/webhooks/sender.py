"""Signs an event and posts it, once."""

import asyncio
import http
from collections.abc import Callable

import httpx

from gannet_gateway.ledger.deliveries import Attempt
from gannet_gateway.webhooks import signing
from gannet_gateway.webhooks.addresses import Addresses
from gannet_gateway.webhooks.undelivered import Undelivered

PORTS = {"http": 80, "https": 443}
USER_AGENT = "gannet-gateway"


class Sender:
    """Posts over a bare transport, which follows no redirect, keeps no cookie and knows no proxy.

    Args:
        addresses: where a post may go.
        transport: makes the connections. It keeps none: one is for the address and the host name that were checked together.
        timeout_s: most time for a post, from the resolving of the name to the reply's headers.
        clock: Unix seconds.
    """

    def __init__(
        self, addresses: Addresses, transport: httpx.AsyncHTTPTransport, *, timeout_s: float, clock: Callable[[], float]
    ) -> None:
        self._addresses = addresses
        self._transport = transport
        self._timeout_s = timeout_s
        self._clock = clock

    async def send(self, attempt: Attempt) -> int:
        """Post it: the status code, 2xx; raises Undelivered."""
        try:
            async with asyncio.timeout(self._timeout_s):
                status_code = await self._post(attempt)
        except TimeoutError as error:
            raise Undelivered(f"no reply within {self._timeout_s:g} s") from error
        except httpx.HTTPError as error:
            raise Undelivered(_printable(f"{type(error).__name__}: {error}")) from error
        if not http.HTTPStatus.OK <= status_code < http.HTTPStatus.MULTIPLE_CHOICES:
            raise Undelivered(f"status {status_code}", status_code)
        return status_code

    async def _post(self, attempt: Attempt) -> int:
        url = httpx.URL(attempt.url)
        host = url.raw_host.decode()
        addresses = await self._addresses.resolve(host, url.port or PORTS[url.scheme])
        body = attempt.body.encode()
        headers = {
            "host": url.netloc.decode(),
            "content-type": "application/json",
            "user-agent": USER_AGENT,
            **signing.headers(attempt.secret, attempt.name.event, int(self._clock()), body),
        }
        for address in addresses[:-1]:
            try:
                return await self._post_to(url.copy_with(host=address), host, headers, body)
            except httpx.ConnectError:  # nothing was sent
                continue
        return await self._post_to(url.copy_with(host=addresses[-1]), host, headers, body)

    async def _post_to(self, url: httpx.URL, host: str, headers: dict[str, str], body: bytes) -> int:
        # The certificate has to be the host's, not the address's.
        request = httpx.Request("POST", url, headers=headers, content=body, extensions={"sni_hostname": host})
        response = await self._transport.handle_async_request(request)
        await response.aclose()  # the reply's body is not read, however long it is
        return response.status_code


def _printable(message: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in message)
