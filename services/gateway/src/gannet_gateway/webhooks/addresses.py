"""Where webhooks may lead: public addresses, and networks that the operator has named.

Tenants choose the addresses and the gateway stands inside the operator's network, so a host name says nothing: what it resolves to is
checked at every delivery, and the connection goes to the very address that was checked.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from gannet_gateway.webhooks.undelivered import Undelivered

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# The loop's own threads are few and do other work; a name server that does not answer must not take them.
THREADS = 32
ADDRESSES_MAX = 4
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_IPV4_BITS = 0xFFFFFFFF


class Addresses:
    """`networks` are those that are not public and allowed all the same."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = networks
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="resolve")

    def close(self) -> None:
        """Start no more; what is being resolved ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def resolve(self, host: str, port: int) -> list[str]:
        """Addresses of `host` that a webhook may lead to, at most ADDRESSES_MAX; raises Undelivered if there is none."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(
                self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            )
        except (OSError, UnicodeError) as error:
            raise Undelivered("the host's name does not resolve") from error
        addresses = list(dict.fromkeys(str(address[0]).partition("%")[0] for *_, address in found))
        allowed = [address for address in addresses if self.allows(ipaddress.ip_address(address))]
        if not allowed:
            raise Undelivered("the host's address is not public")
        return allowed[:ADDRESSES_MAX]

    def allows(self, address: Address) -> bool:
        """Whether a connection may go there."""
        if any(address in network for network in self._networks):
            return True
        inner = _inner(address)
        if inner is not None:
            return self.allows(inner)
        return address.is_global and not address.is_multicast and not address.is_reserved


def literal(host: str) -> Address | None:
    """The address that `host` is, if it is no name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _inner(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address leads to."""
    if not isinstance(address, ipaddress.IPv6Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & _IPV4_BITS)
    if address.teredo is not None:
        return address.teredo[1]
    return address.ipv4_mapped or address.sixtofour
