"""The commands that ask the dashboard, and what they say when it does not answer."""

import asyncio
import json
from pathlib import Path

import pytest
from joblease.messages import Status
from joblease.trail import NewEvent
from joblease_cli.failures import Exit
from support.attack import Dashboard
from support.cli import Cli
from support.tcp_proxy import TcpProxy


@pytest.fixture
def asking(cli: Cli, dashboard: Dashboard) -> Cli:
    cli.environment |= {"JOBLEASE_DASHBOARD_URL": dashboard.url, "JOBLEASE_DASHBOARD_TOKEN": dashboard.admin}
    cli.namespace = dashboard.own
    return cli


def test_the_history_is_listed(asking: Cli, dashboard: Dashboard) -> None:
    done = asking("history", "-o", "wide")
    assert done.returncode == 0, done.stderr
    head, row = done.stdout.splitlines()
    assert head.split("  ")[0] == "NAME"
    assert "NAMESPACE" not in head
    assert dashboard.mine in row
    both = json.loads(asking("history", "-A", "-o", "json").stdout)
    assert {each["jobId"] for each in both["jobs"]} == {dashboard.mine, dashboard.foreign}
    statuses = asking("history", "--events", "-o", "jsonpath={.events[*].status}")
    assert statuses.stdout == "Failed Step 1 Started Submitted"
    last = asking("history", "--events", "--limit", "1", "--no-headers")
    assert (last.stdout.count("\n"), "Failed" in last.stdout, "--limit shows more" in last.stderr) == (1, True, True)
    steps = asking("history", "--events", "--status", "Step", "--from", "1h", "-o", "custom-columns=S:.status")
    assert steps.stdout == "S\nStep 1\n"
    assert "no jobs" in asking("history", "--state", "Completed").stderr
    assert "no jobs" in asking("history", "--to", "1h").stderr
    for wrong in (("--status", "Step"), ("--state", "Nonsense"), ("--from", "yesterday"), ("-o", "name")):
        done = asking("history", *wrong)
        assert (done.returncode, done.stderr.count("\n")) == (Exit.REFUSED, 1), done.stderr


def test_workers_queues_and_dead_letters_are_listed(asking: Cli) -> None:
    assert "no workers" in asking("workers").stderr
    queues = asking("queues").stdout.splitlines()
    assert queues[0].split() == ["QUEUE", "READY", "UNACKNOWLEDGED", "DEFERRED", "CONSUMERS"]
    assert any(line.startswith("joblease.") for line in queues[1:])
    assert "no dead letters" in asking("dead-letters").stderr
    assert json.loads(asking("dead-letters", "-o", "json").stdout) == {"deadLetters": []}


async def test_a_long_trail_is_described_whole(asking: Cli, dashboard: Dashboard) -> None:
    done = await asyncio.to_thread(asking, "describe", dashboard.mine)
    assert (done.returncode, "deleted; from its audit trail" in done.stdout) == (0, True), done.stderr
    assert done.stdout.count("Failed:") == 1
    trail = dashboard.jobs.trail
    message = await dashboard.jobs.submit("noop", publish=False)
    head = await trail.head(message.job_id)
    steps = [NewEvent(Status.step(number), "a step") for number in range(1, 1_201)]
    for first in range(0, len(steps), 80):
        head, _ = await trail.append(head, steps[first : first + 80])
    done = await asyncio.to_thread(asking, "describe", message.job_id, "-o", "jsonpath={.events[*].sequence}")
    assert done.stdout.split() == [str(number) for number in range(1, head.sequence + 1)], done.stderr
    missing = await asyncio.to_thread(asking, "describe", "nobody")
    assert (missing.returncode, "in the audit trail either" in missing.stderr) == (Exit.NOT_FOUND, True)


async def test_what_goes_wrong_is_one_line_that_says_what_to_do(
    asking: Cli, dashboard: Dashboard, tmp_path: Path
) -> None:
    def said(code: int, *arguments: str) -> str:
        done = asking(*arguments)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1), done
        return done.stderr

    assert "allowed" not in said(Exit.REFUSED, "history", "--dashboard", "ftp://x")
    assert "--dashboard-token" in said(Exit.UNAVAILABLE, "history", "--dashboard-token", "nobody")
    text = said(Exit.UNAVAILABLE, "workers", "--dashboard-token", dashboard.citizen)
    assert "may not list jobrequests in all namespaces" in text
    assert "RBAC" in text
    hasty = ("--request-timeout", "1s")
    assert "Connection refused" in said(Exit.UNAVAILABLE, "workers", "--dashboard", "http://127.0.0.1:1", *hasty)
    del asking.environment["JOBLEASE_DASHBOARD_TOKEN"]
    asking.environment["KUBECONFIG"] = str(tmp_path / "none")
    assert "no token of a kubeconfig" in said(Exit.UNAVAILABLE, "history")
    asking.environment["JOBLEASE_DASHBOARD_URL"] = ""
    assert "none is named with --dashboard or JOBLEASE_DASHBOARD_URL" in said(Exit.REFUSED, "queues")


async def test_a_dashboard_behind_something_that_answers_for_it(asking: Cli, dashboard: Dashboard) -> None:
    async with TcpProxy(dashboard.running.port) as front:
        front.refusal = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        url = f"http://127.0.0.1:{front.port}"
        done = await asyncio.to_thread(asking, "queues", "--dashboard", url, "--request-timeout", "1s")
        assert (done.returncode, "something in between has given it" in done.stderr) == (Exit.UNAVAILABLE, True)
