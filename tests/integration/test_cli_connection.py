"""Which cluster is meant is understood as kubectl does; what is wrong about it is one line."""

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from joblease.limits import API_DEPTH
from joblease_cli.failures import Exit
from joblease_cli.main import main
from support.cli import Cli
from support.programs import program

CONTEXT = "current-context: a\ncontexts: [{name: a, context: {cluster: c, user: u}}]\n"
CLUSTER = "clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\n"
USER = "users: [{name: u, user: {token: t}}]\n"
PLUGIN = (
    "users: [{name: u, user: {exec: {apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, "
    "installHint: 'Get it: brew install kubelogin', "
)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command line in this process."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    return call


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        ("a: [", Exit.REFUSED, "not YAML"),
        ("contexts: hello", Exit.REFUSED, "cannot be read"),
        (f"{CONTEXT}clusters: 5\n{USER}", Exit.REFUSED, "cannot be read"),
        (f"{CONTEXT}clusters: [{{name: c, cluster: {{server: 5}}}}]\n{USER}", Exit.REFUSED, "cannot be read"),
        ("current-context: a\ncontexts: [{name: a}]\n", Exit.REFUSED, "context"),
        (f"{CONTEXT}clusters: [{{name: c, cluster: {{server: 'a b'}}}}]\n{USER}", Exit.UNAVAILABLE, "invalid"),
        (CONTEXT.replace("current-context: a", "current-context: b") + CLUSTER, Exit.REFUSED, "no context 'b'"),
        (CONTEXT.replace("current-context: a", "") + CLUSTER + USER, Exit.REFUSED, "--context (it has the contexts a)"),
        (f"{CONTEXT}{CLUSTER}{USER}", Exit.UNAVAILABLE, "Connection refused"),
        (f"{CONTEXT}{CLUSTER}{PLUGIN}command: kubelogin-x}}}}}}]\n", Exit.UNAVAILABLE,
         "executable kubelogin-x not found. Get it: brew install kubelogin About"),
        (f"{CONTEXT}{CLUSTER}{PLUGIN}command: sh, args: [-c, 'echo sign in first >&2; exit 3']}}}}}}]\n",
         Exit.UNAVAILABLE, "sign in first"),
        (f"{CONTEXT}{CLUSTER}{PLUGIN}command: echo, args: [hello]}}}}}}]\n", Exit.UNAVAILABLE, "decode"),
    ],
)  # fmt: skip
def test_a_kubeconfig_that_cannot_be_used_is_one_line(
    run: Run, tmp_path: Path, content: str, code: int, said: str
) -> None:
    path = tmp_path / "config"
    path.write_text(content)
    ended, out, err = run("list", "--kubeconfig", str(path))
    assert (ended, out, err.count("\n")) == (code, "", 1), err
    assert said in err
    assert err.startswith("joblease: ")


def test_a_context_can_be_chosen_without_a_current_one(cli: Cli, run: Run, tmp_path: Path) -> None:
    def forget(content: dict[str, Any]) -> None:
        content["contexts"][0]["context"]["namespace"] = cli.namespace
        content.pop("current-context")

    name = cli.submit("x")
    path = cli.kubeconfig(tmp_path / "config", forget)
    context = json.loads(Path(path).read_text())["contexts"][0]["name"]
    code, out, err = run("--context", context, "--kubeconfig", path, "list", "-o", "name")
    assert (code, out) == (0, f"jobrequest.joblease.dev/{name}\n"), err


def test_bad_certificates_are_one_line(cli: Cli, run: Run, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nonsense")

    def wrong(content: dict[str, Any]) -> None:
        cluster = content["clusters"][0]["cluster"]
        cluster.pop("certificate-authority-data", None)
        cluster["certificate-authority"] = str(tmp_path / "ca.pem")

    code, out, err = run("list", "--kubeconfig", cli.kubeconfig(tmp_path / "config", wrong))
    assert (code, out, err.count("\n")) == (Exit.UNAVAILABLE, "", 1), err


def test_requests_are_bounded_as_kubectls(cli: Cli, run: Run) -> None:
    here = ("-n", cli.namespace, "--kubeconfig", cli.environment["KUBECONFIG"])
    for bound in ("0", "1m", "30"):
        assert run("list", "--request-timeout", bound, *here)[0] == Exit.OK
    waiting = run("submit", "x", "--wait", "--timeout", "1", "--request-timeout", "0", *here)  # a watch, too
    assert waiting[0] == Exit.TIMEOUT, waiting
    for bound in ("-1", "x", "1x"):
        code, _, err = run("list", "--request-timeout", bound, *here)
        assert (code, err.count("\n"), "length of time" in err) == (Exit.REFUSED, 1, True)


@pytest.mark.usefixtures("operator", "worker")
async def test_a_deleted_job_is_described_from_its_trail(
    cli: Cli, run: Run, operator_kubeconfig: Path, amqp_url: str, storage: str, tmp_path: Path
) -> None:
    variables = {
        "KUBECONFIG": cli.environment["KUBECONFIG"],
        "JOBLEASE_AMQP_URL": amqp_url,
        "JOBLEASE_STORAGE_CONNECTION_STRING": storage,
        "JOBLEASE_DASHBOARD_ACCESS": "kubernetes",
    }
    here = ("-n", cli.namespace, "--kubeconfig", cli.environment["KUBECONFIG"])
    async with program("joblease-dashboard", variables, tmp_path / "dashboard.log") as dashboard:
        name = cli.submit("noop", "--queue", cli.namespace, "--ttl", "0")
        url = f"http://127.0.0.1:{dashboard.port}"
        async with asyncio.timeout(60):
            while (found := await asyncio.to_thread(run, "describe", name, "--dashboard", url, *here))[0] or (
                "deleted; from its audit trail" not in found[1]
            ):
                await asyncio.sleep(0.2)
        assert "Completed: attempt 1 completed" in found[1]
        uid = found[1].split("jobId:")[1].split()[0]
        code, out, _ = await asyncio.to_thread(
            run, "describe", uid, "--dashboard", url, "-o", "jsonpath={.events[*].status}", *here
        )
        assert (code, out) == (0, "Submitted Queued Started Completed")
        code, _, err = await asyncio.to_thread(run, "describe", "nobody", "--dashboard", url, *here)
        assert (code, "in the audit trail either" in err) == (Exit.NOT_FOUND, True)
    code, _, err = await asyncio.to_thread(run, "describe", name, "--dashboard", url, *here)
    assert (code, err.count("\n")) == (Exit.UNAVAILABLE, 1)
    code, _, err = await asyncio.to_thread(run, "describe", name, *here)
    assert (code, f"joblease describe {name} --trail" in err) == (Exit.NOT_FOUND, True)


def test_calls_from_one_process_do_not_raise_the_recursion_limit_each_time(run: Run) -> None:
    """Deep JSON overflowed the C stack after a dozen of them."""
    run("--version")
    limit = sys.getrecursionlimit()
    run("--version")
    assert sys.getrecursionlimit() == limit > API_DEPTH
