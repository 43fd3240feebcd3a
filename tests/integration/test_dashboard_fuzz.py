"""The OpenAPI document and what the dashboard really does, held against each other with made-up requests.

schemathesis sends requests that fit the document, and others that just do not: no answer may be a server error, and all
must be as documented, without a token as well. What it cannot handle, an answer that never ends, is tried here.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joblease.limits import DNS_LABEL
from joblease_dashboard.api.routes import ROUTES
from joblease_local.control_plane import ControlPlane
from joblease_local.manifests import apply, apply_file
from joblease_local.settings import ROOT
from support.accounts import ACCESS
from support.history import History
from support.jobs import Jobs, open_jobs
from support.pages import addresses
from support.programs import Program, program

EXAMPLES = 15
BATCH_SECONDS = 90
"""A thousand jobs in one request take their time."""
VERBS = ("get", "list", "watch", "create", "patch")
# A page token is any text to the document and one of our own to us; `from` after `to` is refused as a mistake.
EXCLUDED = "positive_data_acceptance"
SUITE = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None)


@pytest.fixture(scope="module")
def token(api_server: ControlPlane, crd: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of an account that may see and do everything."""
    name, rbac = "fuzz", "rbac.authorization.k8s.io"
    apply_file(crd, ROOT / "manifests" / "install.yaml", ACCESS)
    rules = [{"apiGroups": ["joblease.dev"], "resources": ["jobrequests"], "verbs": list(VERBS)}]
    apply(
        crd,
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": "default"}},
        {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules},
        {
            "apiVersion": f"{rbac}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "default"}],
        },
    )  # fmt: skip
    kubeconfig = tmp_path_factory.mktemp("fuzz") / "kubeconfig"
    api_server.service_account_kubeconfig("default", name, kubeconfig)
    return str(yaml.safe_load(kubeconfig.read_text())["users"][0]["user"]["token"])


@pytest.fixture(scope="module")
async def jobs(amqp_url: str, storage: str) -> AsyncIterator[Jobs]:
    async with open_jobs(amqp_url, storage) as opened:
        yield opened


@pytest.fixture(scope="module")
async def dashboard(
    api_server: ControlPlane, token: str, jobs: Jobs, amqp_url: str, storage: str, tmp_path_factory: Any
) -> AsyncIterator[Program]:
    """One with some jobs to tell of."""
    folder = tmp_path_factory.mktemp("dashboard")
    api_server.service_account_kubeconfig("joblease-system", "joblease-dashboard", folder / "kubeconfig")
    variables = {
        "KUBECONFIG": str(folder / "kubeconfig"),
        "JOBLEASE_AMQP_URL": amqp_url,
        "JOBLEASE_STORAGE_CONNECTION_STRING": storage,
        "JOBLEASE_DASHBOARD_ACCESS": "kubernetes",
        "JOBLEASE_DASHBOARD_REQUESTS_PER_SECOND": "10000",
    }
    async with program("joblease-dashboard", variables, folder / "log") as running:
        for number in range(60):
            await History(jobs, f"job-{number}").complete()
        yield running


@pytest.mark.timeout(900)
async def test_every_answer_is_as_documented(dashboard: Program, token: str, tmp_path: Path) -> None:
    command = (
        Path(sys.executable).parent / "schemathesis", "run", f"http://127.0.0.1:{dashboard.port}/openapi.json",
        "--header", f"Authorization: Bearer {token}", "--max-examples", str(EXAMPLES), "--checks", "all",
        "--exclude-checks", EXCLUDED, "--exclude-path", "/api/stream", "--continue-on-failure", "--no-color",
        "--suppress-health-check", "all", "--request-timeout", str(BATCH_SECONDS),
        "--max-response-time", str(BATCH_SECONDS),
    )  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        *command, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    assert f"Tested: {sum(map(len, ROUTES.values())) - 1}" in said.decode()


async def test_a_stream_opens_or_says_why_not(dashboard: Program, token: str) -> None:
    texts = st.text(max_size=40)
    names = st.sampled_from(["jobId", "namespace", "lastEventId"]) | texts
    base, headers = f"http://127.0.0.1:{dashboard.port}", {"Authorization": f"Bearer {token}"}

    @SUITE
    @given(st.dictionaries(names, texts, max_size=4))
    def ask(query: dict[str, str]) -> None:
        known = set(query) <= {"jobId", "namespace", "lastEventId"}
        known &= not query.get("namespace") or DNS_LABEL.fullmatch(query["namespace"]) is not None
        with httpx.stream("GET", f"{base}/api/stream", params=query, headers=headers, timeout=10) as answer:
            assert answer.status_code == (200 if known else 400), query
            if known:
                assert answer.headers["content-type"].startswith("text/event-stream")
                assert next(answer.iter_lines()).startswith("retry:")

    await asyncio.to_thread(ask)


async def test_pages_bear_any_query(dashboard: Program, token: str) -> None:
    """Pages are in no document; they must bear the same."""
    names = st.sampled_from(["name", "namespace", "handler", "group", "state", "status", "from", "to", "page_token",
                             "page_size", "window", "copy", "message", "next"]) | st.text(max_size=10)  # fmt: skip
    values = st.text(max_size=40) | st.sampled_from(["2026-11-24T12:00:00Z", "Failed", "1h", "0", "-1", "1e9"])
    headers = {"Authorization": f"Bearer {token}", "Accept": "text/html"}

    @SUITE
    @given(st.sampled_from(addresses("x")), st.dictionaries(names, values, max_size=4))
    def ask(path: str, query: dict[str, str]) -> None:
        answer = httpx.get(f"http://127.0.0.1:{dashboard.port}{path}", params=query, headers=headers, timeout=20)
        assert answer.status_code < 500, (path, query, answer.text)
        assert answer.headers["content-type"].startswith("text/html") or answer.is_redirect

    await asyncio.to_thread(ask)
