"""Which addresses a catalogue may make the cluster connect to: the public ones.

`image` cells come from feeds that others write. Every address is looked at when its socket is made,
so neither a name that resolves anew nor a redirect leads inside."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from aiohttp import ThreadedResolver
from aiohttp.abc import ResolveResult

#: Ranges whose last 32 bits are an IPv4 address: mapped, translated (RFC 6052), compatible.
_WITH_IPV4 = tuple(map(ip_network, ("::ffff:0:0/96", "64:ff9b::/96", "::/96")))
#: IPv6 that is routed in the internet; of it the rest of `is_global` is about.
_ROUTED = ip_network("2000::/3")


class PrivateAddressError(OSError):
    """An address that a picture may not come from."""


class AddressGuard(ThreadedResolver):
    """A resolver, and `socket` a factory of sockets, that refuse addresses that are not public,
    except those in `networks`. For aiohttp's connector, which resolves names by the one and
    connects through the other."""

    def __init__(self, networks: Sequence[str]) -> None:
        super().__init__()
        self.networks = networks

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        results = await super().resolve(host, port, family)
        for result in results:
            check_address(result["host"], self.networks)
        return results

    def socket(self, address_info: tuple[Any, ...]) -> socket.socket:
        """Of a family, type and protocol to an address."""
        family, kind, protocol, _, address = address_info
        check_address(address[0], self.networks)
        return socket.socket(family=family, type=kind, proto=protocol)


def check_address(host: str, networks: Sequence[str]) -> None:
    """PrivateAddressError for an address that is neither public nor in `networks`."""
    address = ip_address(host.partition("%")[0])
    if not is_public(address) and not any(address in ip_network(each) for each in networks):
        raise PrivateAddressError(
            f"it leads to {host}, which is no public address: if the shop's own pictures lie "
            "there, add its network to FetchLimits.private_networks"
        )


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether the internet routes to one host by it. Of an address that carries an IPv4 one, both
    must be."""
    if isinstance(address, IPv4Address):
        return address.is_global and not address.is_multicast
    if any(address in network for network in _WITH_IPV4):
        return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
    if address.sixtofour is not None and not is_public(address.sixtofour):
        return False
    return address in _ROUTED and address.is_global and not address.is_multicast
