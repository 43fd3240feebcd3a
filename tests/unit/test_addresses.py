"""Whom a request comes from."""

from ipaddress import ip_network

import pytest
from joblease_dashboard.access.addresses import client, measured, trusts

TRUSTED = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]


@pytest.mark.parametrize(
    ("connected", "forwarded", "expected"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["198.51.100.7"], "192.0.2.1"),
        ("10.1.1.1", ["198.51.100.7"], "198.51.100.7"),
        ("10.1.1.1", ["6.6.6.6, 198.51.100.7"], "198.51.100.7"),
        ("10.1.1.1", ["6.6.6.6", "198.51.100.7, 10.2.2.2"], "198.51.100.7"),
        ("10.1.1.1", ["198.51.100.7:4711"], "198.51.100.7"),
        ("fd00::1", ["[2001:db8::7]:4711"], "2001:db8::7"),
        ("10.1.1.1", ["2001:db8::7"], "2001:db8::7"),
        ("10.1.1.1", [""], "10.1.1.1"),
        # A socket for both families names the addresses of IPv4 so; the chart's dashboard listens on one.
        ("::ffff:10.1.1.1", ["198.51.100.7"], "198.51.100.7"),
        ("::ffff:10.1.1.1", ["::ffff:198.51.100.7, ::ffff:a02:202"], "198.51.100.7"),
        ("::ffff:192.0.2.1", ["198.51.100.7"], "192.0.2.1"),
    ],
)
def test_the_first_address_before_the_trusted_proxies(connected: str, forwarded: list[str], expected: str) -> None:
    assert client(connected, forwarded, TRUSTED) == expected


def test_an_address_of_ipv4_is_the_same_on_a_socket_for_both_families() -> None:
    assert trusts("::ffff:10.1.1.1", TRUSTED)
    assert not trusts("::ffff:192.0.2.1", TRUSTED)
    assert measured("::ffff:192.0.2.1") == measured("192.0.2.1")


def test_a_network_of_ipv6_has_one_measure() -> None:
    assert measured("2001:db8::1") == measured("2001:db8::ffff:1") != measured("2001:db8:0:1::1")
    assert measured("192.0.2.1") != measured("192.0.2.2")
    assert measured("not an address") == "not an address"
