"""Whom a request comes from.

A socket for both families (`::`) names an address of IPv4 `::ffff:192.0.2.1`. Here it is 192.0.2.1 in any case:
networks of proxies are written so.
"""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Networks = Sequence[IPv4Network | IPv6Network]
CLIENT_BITS = 64
"""Of an IPv6 address: whoever has one has a whole network of them."""


def client(connected: str, forwarded: Sequence[str], trusted: Networks) -> str:
    """The first address before the trusted proxies, or whoever connected.

    `forwarded` are the values of `X-Forwarded-For`: addresses, with or without a port, the last proxy's last.
    """
    found = plain(connected)
    for earlier in reversed(",".join(forwarded).split(",")):
        if not trusts(found, trusted):
            break
        found = plain(_address(earlier)) or found
    return found


def plain(address: str) -> str:
    """The address, of IPv4 if it is one of those that IPv6 has for it."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return str(mapped) if mapped else address


def trusts(address: str, trusted: Networks) -> bool:
    """Whether this is one of the proxies."""
    try:
        return any(ip_address(plain(address)) in network for network in trusted)
    except ValueError:
        return False


def measured(address: str) -> str:
    """Who has a measure of their own: an address, or a network of IPv6."""
    address = plain(address)
    try:
        if isinstance(ip_address(address), IPv6Address):
            return str(ip_network(f"{address}/{CLIENT_BITS}", strict=False))
    except ValueError:
        pass
    return address


def _address(text: str) -> str:
    """Without port and brackets."""
    text = text.strip()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    host, _, port = text.rpartition(":")
    return host if host and ":" not in host and port.isdigit() else text
