"""The dashboard below a path of its host, before a proxy that leaves the path as it is, and one that takes it away."""

import re
from html import unescape
from pathlib import Path

import httpx
import pytest
from support.history import History
from support.jobs import Jobs
from support.pages import addresses
from support.programs import program

BASE = "/joblease"
LINKS = re.compile(r'(?:href|src|action|hx-get|sse-connect)="([^"]*)"')


@pytest.mark.parametrize("taken_away", [False, True])
async def test_every_link_of_every_page_leads_below_the_path(
    jobs: Jobs, amqp_url: str, storage: str, tmp_path: Path, *, taken_away: bool
) -> None:
    history = History(jobs, "linked")
    await history.complete()
    job_id = history.job_id
    variables = {
        "JOBLEASE_AMQP_URL": amqp_url,
        "JOBLEASE_STORAGE_CONNECTION_STRING": storage,
        "JOBLEASE_DASHBOARD_BASE_PATH": BASE,
    }
    async with (
        program("joblease-dashboard", variables, tmp_path / "dashboard.log") as running,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{running.port}", headers={"Accept": "text/html"}) as http,
    ):

        async def get(address: str) -> httpx.Response:
            assert address == BASE or address.startswith(f"{BASE}/"), address
            return await http.get(address.removeprefix(BASE) or "/" if taken_away else address)

        seen, to_see = set[str](), [BASE, *(BASE + path for path in addresses(job_id))]
        while to_see:
            address = to_see.pop()
            seen.add(address)
            answer = await get(address)
            assert answer.status_code in (200, 303, 404, 409), address
            if answer.status_code == 303:
                to_see.append(answer.headers["location"])
            elif "text/html" in answer.headers["content-type"]:
                links = {unescape(link) for link in LINKS.findall(answer.text)}
                own = {str(httpx.URL(address).join(link)) for link in links if not link.startswith("#")}
                assert all(link.startswith((f"{BASE}/", f"{BASE}?")) or link == BASE for link in own), address
                to_see.extend(own - seen - {link for link in own if "/api/stream" in link})
            seen |= set(to_see)
        assert f"{BASE}/jobs/{job_id}" in seen
        assert (await get(f"{BASE}/openapi.json")).json()["servers"] == [{"url": BASE}]
        sought = await get(f"{BASE}/jobs?name={job_id}")
        assert (sought.status_code, sought.headers["location"]) == (303, f"{BASE}/jobs/{job_id}")
        assert (await get(f"{BASE}/jobs/")).status_code == 200


@pytest.mark.parametrize("path", ["joblease", "/joblease/", "//x", "/a b", "/a?b", "https://x"])
async def test_what_is_no_path_is_refused(path: str) -> None:
    from joblease_dashboard.settings import DashboardSettings

    with pytest.raises(ValueError, match="dashboard_base_path"):
        DashboardSettings(dashboard_base_path=path)
