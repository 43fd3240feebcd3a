"""The socket that a program listens on.

`::` means every address of both families: asyncio's own servers would take it for IPv6 alone, and `0.0.0.0` is out of
reach on a cluster that has IPv6 only.
"""

import socket

EVERYWHERE = "::"


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens; where a machine has no IPv6, `::` is every address of IPv4. Ends a program that cannot."""
    try:
        if host == EVERYWHERE and socket.has_dualstack_ipv6():
            return socket.create_server((host, port), family=socket.AF_INET6, dualstack_ipv6=True)
        if host == EVERYWHERE:
            host = "0.0.0.0"  # noqa: S104 - what `::` asks for
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise SystemExit(f"cannot listen on {host}, port {port}: {error.strerror or error}") from None
