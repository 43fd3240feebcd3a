"""What docs/dashboard.md says is so: its RBAC examples let in whom they should, and its commands work."""

import re
import shlex
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
import yaml
from joblease_dashboard.settings import DashboardSettings
from joblease_local.control_plane import ControlPlane
from joblease_local.manifests import apply, apply_file
from joblease_local.settings import ROOT
from support.accounts import ACCESS
from support.cluster import Cluster
from support.pages import NAVIGATION, OF_A_NAMESPACE, without_form
from support.programs import program

GUIDE = (ROOT / "docs" / "dashboard.md").read_text()
SECRET = "the-proxy-is-the-proxy-and-nobody-else"
PROXY = {
    "JOBLEASE_DASHBOARD_ACCESS": "proxy",
    "JOBLEASE_DASHBOARD_TRUSTED_PROXIES": '["127.0.0.0/8"]',
    "JOBLEASE_DASHBOARD_PROXY_SECRET": SECRET,
}
SAME = {"Sec-Fetch-Site": "same-origin"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


@pytest.fixture(scope="module")
def cluster(api_server: ControlPlane, crd: Path) -> Cluster:
    """With the guide's examples applied."""
    apply_file(crd, ROOT / "manifests" / "install.yaml", ACCESS)
    apply(crd, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
    for block in blocks("yaml"):  # the guide is about a Helm release, these roles are those of the plain manifests
        apply(crd, *yaml.safe_load_all(block.replace("joblease-joblease-", "joblease-system-joblease-")))
    return Cluster(crd, "shop")


@pytest.fixture
async def http(
    request: pytest.FixtureRequest, crd: Path, cluster: Cluster, amqp_url: str, storage: str, tmp_path: Path
) -> AsyncIterator[httpx.AsyncClient]:
    """A dashboard whose own account may act as anybody."""
    variables = {
        "KUBECONFIG": str(crd),
        "JOBLEASE_AMQP_URL": amqp_url,
        "JOBLEASE_STORAGE_CONNECTION_STRING": storage,
        **request.param,
    }
    async with (
        program("joblease-dashboard", variables, tmp_path / "dashboard.log") as running,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{running.port}", timeout=20) as client,
    ):
        yield client


@pytest.mark.parametrize("http", [PROXY], indirect=True)
async def test_the_groups_of_the_examples_see_and_do_what_they_should(http: httpx.AsyncClient) -> None:
    async def asks(group: str, method: str, path: str) -> int:
        proof = {"X-Joblease-Proxy-Secret": SECRET}
        who = {"X-Forwarded-User": "somebody", "X-Forwarded-Groups": group, **proof, **SAME}
        return (await http.request(method, path, headers=who)).status_code

    for path in NAVIGATION:
        in_shop, scoped = f"{path}?namespace=shop", path in OF_A_NAMESPACE
        for group, at, status in (
            ("developers", in_shop, 200 if scoped else 403), ("developers", path, 403), ("strangers", in_shop, 403),
            ("on-call", path, 200),
        ):  # fmt: skip
            assert await asks(group, "GET", at) == status, (group, at)
    for path, status in (("/submit?namespace=shop", 200), ("/queues/replay", 404)):
        assert await asks("on-call", "GET", path) == status
        assert await asks("developers", "GET", path) == 403
    assert await asks("developers", "POST", "/queues/replay") == 403
    assert await asks("on-call", "POST", "/queues/replay") == 200


@pytest.mark.parametrize("http", [{"JOBLEASE_DASHBOARD_ACCESS": "kubernetes"}], indirect=True)
async def test_the_commands_for_programs_work(
    http: httpx.AsyncClient, api_server: ControlPlane, cluster: Cluster, tmp_path: Path
) -> None:
    api_server.service_account_kubeconfig("shop", "nightly", tmp_path / "nightly")
    token = yaml.safe_load((tmp_path / "nightly").read_text())["users"][0]["user"]["token"]
    lines = [line.replace("$TOKEN", token) for line in blocks("sh")[0].splitlines()[1:]]
    made, many, listed = [await curl(http, line) for line in lines]
    assert (made.status_code, listed.status_code) == (201, 200)
    assert listed.json() == {"jobs": []}
    assert [each["status"] for each in many.json()["results"]] == [201, 422]
    created = next(each for each in cluster.all() if each["metadata"]["uid"] == made.json()["jobId"])
    assert created["spec"] == {"handler": "demo", "parameters": {"steps": 3}, **_defaults(created["spec"])}
    by = created["metadata"]["annotations"]["joblease.dev/requested-by"]
    assert by == "system:serviceaccount:shop:nightly"
    assert (await curl(http, lines[0])).json() == {**made.json(), "created": False}
    (keyed,) = blocks("sh")[1].replace("$TOKEN", token).splitlines()
    first, again = [await curl(http, keyed) for _ in range(2)]
    assert (first.status_code, again.status_code, first.json()["key"]) == (201, 200, "order-17")
    assert again.json() == {**first.json(), "created": False}
    (line,) = blocks("sh")[2].splitlines()
    selected = await curl(http, line.replace("$TOKEN", token))
    assert (selected.status_code, selected.json()["matched"]) == (200, 0)


async def curl(http: httpx.AsyncClient, line: str) -> httpx.Response:
    """Do what a command of the guide does, with this dashboard."""
    command = shlex.split(line.replace("http://127.0.0.1:8080", str(http.base_url)))
    assert command[0] == "curl"
    data = [value for flag, value in pairwise(command) if flag == "-d"]
    headers = dict(v.split(": ", 1) for flag, v in pairwise(command) if flag == "-H")
    address = next(word for word in command if word.startswith("http"))
    if body := next((value for flag, value in pairwise(command) if flag == "--json"), None):
        return await http.post(address, headers={**headers, "Content-Type": "application/json"}, content=body)
    fields = dict(each.split("=", 1) for each in data)
    return await http.request("POST" if data else "GET", address, headers=headers, data=fields or None)


@pytest.mark.parametrize("http", [{}], indirect=True)
async def test_the_commands_without_access_control_work(http: httpx.AsyncClient) -> None:
    """The dashboard lets them in, and the API server takes the jobs."""
    by_api, by_form = [await curl(http, line) for line in blocks("sh")[3].splitlines()]
    assert (by_api.status_code, by_api.json()["created"]) == (201, True)
    assert (by_form.status_code, by_form.json()["action"]) == (200, "submit")


def _defaults(spec: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in spec.items() if name not in ("handler", "parameters")}


def test_every_page_and_setting_exists() -> None:
    assert set(re.findall(r"\(`(/[^`]*)`\)", GUIDE)) == set(without_form("<id>"))
    told = {path: name for name, path in re.findall(r"^\*\*([^*]+)\*\* \(`(/[^`]*)`\)", GUIDE, re.MULTILINE)}
    assert {path: told.get(path) for path in NAVIGATION} == NAVIGATION
    unnamed = {path: name for path, name in told.items() if path not in NAVIGATION}
    others = {"/jobs/<id>": "A job", "/queues/letters": "Dead letters", "/api/docs": "API"}
    assert unnamed == others  # which are not in the navigation
    settings = {f"JOBLEASE_{name.upper()}" for name in DashboardSettings.model_fields}
    assert set(re.findall(r"JOBLEASE_[A-Z_]+[A-Z]", GUIDE)) <= settings


def test_every_picture_exists() -> None:
    for document in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for path in re.findall(r"!\[[^]]*\]\(([^)]+)\)", document.read_text()):
            assert (document.parent / path).is_file(), (document, path)
