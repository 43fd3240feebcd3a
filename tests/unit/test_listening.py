"""The sockets that programs listen on."""

import socket

import pytest
from joblease.listening import EVERYWHERE, listening

LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


def reached(listener: socket.socket, host: str) -> bool:
    with socket.create_connection((host, listener.getsockname()[1]), timeout=5):
        connection, _ = listener.accept()
        connection.close()
    return True


@pytest.fixture
def ipv6() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")


@pytest.mark.usefixtures("ipv6")
def test_everywhere_is_everywhere_in_both_families() -> None:
    with listening(EVERYWHERE, 0) as listener:
        assert all(reached(listener, host) for host in LOOPBACK.values())


@pytest.mark.usefixtures("ipv6")
@pytest.mark.parametrize("family", LOOPBACK)
def test_an_address_of_one_family_is_that_address(family: socket.AddressFamily) -> None:
    with listening(LOOPBACK[family], 0) as listener:
        assert listener.family == family
        assert reached(listener, LOOPBACK[family])


def test_everywhere_is_ipv4_where_there_is_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    with listening(EVERYWHERE, 0) as listener:
        assert listener.family == socket.AF_INET
        assert reached(listener, "127.0.0.1")


def test_a_port_that_is_taken_ends_the_program_with_its_number() -> None:
    with listening("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(SystemExit, match=f"127.0.0.1, port {port}: Address already in use"):
            listening("127.0.0.1", port)
