"""A running dashboard is reached in both families: uvicorn by itself would take `::` for IPv6 alone."""

import socket
from pathlib import Path

import httpx
import pytest
from support.programs import program


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
async def test_the_dashboard_is_reached_in_both_families(amqp_url: str, storage: str, tmp_path: Path) -> None:
    environment = {
        "KUBECONFIG": "/nowhere",
        "JOBLEASE_AMQP_URL": amqp_url,
        "JOBLEASE_STORAGE_CONNECTION_STRING": storage,
        "JOBLEASE_DASHBOARD_HOST": "::",
        "JOBLEASE_DASHBOARD_INSECURE": "true",
    }
    async with program("joblease-dashboard", environment, tmp_path / "log") as running, httpx.AsyncClient() as http:
        for host in ("127.0.0.1", "[::1]"):
            assert (await http.get(f"http://{host}:{running.port}/api/jobs")).status_code == 200
