"""The command line as a process, against a real API server; the operator's part is played by the test."""

import asyncio
import json
import os
import pty
import select
import shlex
import subprocess
from pathlib import Path

import pytest
from support.cli import Cli


def test_submit_creates_what_was_asked_for(cli: Cli) -> None:
    done = cli(
        "submit", "resize", "-p", "width=3", "-p", "text=a b", "-p", 'list=["x"]', "--name", "mine", "--priority", "5",
        "--group", "g", "--limit", "2", "--max-attempts", "7", "--deadline", "2m", "--ttl", "1h", "--suspend",
        "--queue", "other", "--description", "why", "--input-file-path", "s3://b/c",
        "--start-after", "2030-01-01T00:00:00Z",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "jobrequest.joblease.dev/mine created\n"), done.stderr
    resource = cli.get("mine")
    spec = resource["spec"]
    assert spec["parameters"] == {"width": 3, "text": "a b", "list": ["x"]}
    assert spec["concurrency"] == {"group": "g", "limit": 2}
    assert (spec["priority"], spec["retry"]["maxAttempts"], spec["activeDeadlineSeconds"]) == (5, 7, 120)
    assert (spec["ttlSecondsAfterFinished"], spec["suspend"], spec["queue"]) == (3600, True, "other")
    assert resource["metadata"]["annotations"]["joblease.dev/traceparent"].startswith("00-")


def test_parameters_come_from_a_file_or_standard_input(cli: Cli) -> None:
    done = cli("submit", "resize", "--name", "piped", "--parameters", "-", "-p", "b=2", text='{"a": 1, "b": 1}')
    assert done.returncode == 0, done.stderr
    assert cli.get("piped")["spec"]["parameters"] == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("submit", "Not A Name"), 2, "handler: String should match pattern"),
        (("submit", "x", "-p", "novalue"), 2, "expected key=value"),
        (("submit", "x", "--priority", "12"), 2, "priority: "),
        (("submit", "x", "-p", "big=" + "x" * 65_536), 2, "at most 65536 fit"),
        (("submit", "x", "--deadline", "soon"), 2, "expected a length of time"),
        (("submit", "x", "--start-after", "tomorrow"), 2, "startAfter: expected a time with its zone, as 2030"),
        (("submit", "x", "--start-after", "2030-01-01T00:00:00"), 2, "startAfter: expected a time with its zone"),
        (("submit", "x", "--parameters", "/nowhere.json"), 2, "cannot be read"),
        (("describe", "nobody"), 4, "no job 'nobody'"),
        (("follow", "nobody"), 4, "no job 'nobody'"),
        (("cancel", "nobody"), 4, "no job 'nobody'"),
        (("publish",), 2, "use --count"),
        (("list", "--kubeconfig", "/nowhere"), 2, "no usable kubeconfig"),
        (("nonsense",), 2, "No such command 'nonsense'. See `"),
        (("list", "--watc"), 2, "Did you mean '--watch'? See `"),
        (("cancel", "deployment/nobody"), 2, "'deployment/nobody' names no job; expected NAME or jobrequest/NAME"),
        (("describe", "../nobody"), 2, "names no job"),
        (("describe", "jr/nobody"), 4, "no job 'nobody'"),
        (("describe", "jobrequest.joblease.dev/nobody"), 4, "no job 'nobody'"),
        (("describe", "jobrequests.v1alpha1.joblease.dev/nobody"), 4, "no job 'nobody'"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line_and_an_exit_code(
    cli: Cli, arguments: tuple[str, ...], code: int, message: str
) -> None:
    done = cli(*arguments)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("line", "code"),
    [("list >&-", 0), ("nonsense 2>&-", 2), ("describe nobody 2>&-", 4), ("describe nobody >&- 2>&-", 4)],
)
def test_a_closed_output_changes_no_exit_code(cli: Cli, line: str, code: int) -> None:
    """1 would say that the job failed."""
    program, *rest = cli.command()
    command = f"{program} {line.replace(' ', f' {shlex.join(rest)} ', 1)}"
    assert subprocess.run(command, shell=True, env=cli.environment, timeout=60, check=False).returncode == code


@pytest.mark.parametrize("namespace", ["Team-A", "a/b", "../../../api", "a" * 64])
def test_what_is_no_namespace_is_not_asked_for(cli: Cli, namespace: str) -> None:
    cli.namespace = namespace
    done = cli("list")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"joblease: --namespace {namespace!r}: small letters")


def test_arguments_are_utf_8_whatever_the_locale_says(cli: Cli) -> None:
    environment = {**cli.environment, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}

    def submit(*arguments: str | bytes) -> subprocess.CompletedProcess[bytes]:
        command = [*cli.command("submit", "noop"), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False)

    done = submit("--name", "greets", "--description", "Gr\u00fc\u00dfe \u2713")
    assert done.returncode == 0, done.stderr
    assert cli.get("greets")["spec"]["description"] == "Gr\u00fc\u00dfe \u2713"
    done = submit(b"-p", b"a=caf\xe9")
    assert (done.returncode, done.stderr) == (2, b"joblease: 'a=caf\\udce9' is no UTF-8\n")


def test_a_server_that_is_away_is_named(cli: Cli, tmp_path: Path) -> None:
    kubeconfig = tmp_path / "away"
    kubeconfig.write_text(
        json.dumps(
            {
                "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],
                "users": [{"name": "u", "user": {"token": "t"}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )
    done = cli("list", "--kubeconfig", str(kubeconfig))
    assert (done.returncode, "http://127.0.0.1:9" in done.stderr) == (6, True), done.stderr


@pytest.mark.parametrize(
    ("reason", "status", "code"),
    [
        ("Completed", "True", 0),
        ("Failed", "False", 1),
        ("DeadlineExceeded", "False", 1),
        ("WorkerCrashed", "False", 1),
        ("Cancelled", "False", 3),
    ],
)
async def test_waiting_ends_with_the_job_and_tells_how_it_ended(cli: Cli, reason: str, status: str, code: int) -> None:
    name = cli.submit("noop", "--name", f"job-{reason.lower()}")
    following = await asyncio.create_subprocess_exec(
        *cli.command("follow", name), env=cli.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    cli.becomes(name, "Running", attempt=1, progress=40)
    assert following.stdout
    async with asyncio.timeout(15):
        while b"Running  40%" not in await following.stdout.readline():
            pass
    cli.becomes(name, reason, status, message="that is why", result={"n": 1})
    output, _ = await asyncio.wait_for(following.communicate(), 15)
    assert following.returncode == code
    assert f"{name} {reason}" in output.decode()
    assert ('{"n": 1}' if code == 0 else "that is why") in output.decode()


def test_waiting_can_be_bounded(cli: Cli) -> None:
    done = cli("submit", "noop", "--wait", "--timeout", "1")
    assert (done.returncode, "it goes on" in done.stderr) == (5, True)


def test_list_shows_the_columns_of_kubectl(cli: Cli) -> None:
    first, second = cli.submit("alpha", "--name", "first"), cli.submit("beta", "--name", "second")
    cli.becomes(first, "Running", attempt=2, progress=40, worker="worker-7")
    lines = cli("list").stdout.splitlines()
    assert lines[0].split() == ["NAME", "HANDLER", "STATUS", "PROGRESS", "ATTEMPT", "AGE"]
    assert lines[1].split()[:5] == ["first", "alpha", "Running", "40%", "2"]
    assert "worker-7" in cli("list", "-o", "wide").stdout
    assert cli("list", "--handler", "beta", "-o", "name").stdout == f"jobrequest.joblease.dev/{second}\n"
    assert cli("list", "--status", "Running", "-o", "name").stdout == f"jobrequest.joblease.dev/{first}\n"
    assert len(json.loads(cli("list", "-o", "json").stdout)["items"]) == 2


def test_describe_finds_by_name_and_by_id(cli: Cli) -> None:
    name = cli.submit("noop", "-p", "x=1")
    uid = cli.get(name)["metadata"]["uid"]
    for wanted in (name, uid, f"jr/{name}"):
        done = cli("describe", wanted)
        assert uid in done.stdout, done.stderr
        assert '{"x": 1}' in done.stdout


def test_cancel_suspend_and_resume_set_the_spec(cli: Cli) -> None:
    name = cli.submit("noop")
    assert cli("suspend", name).returncode == 0
    assert cli.get(name)["spec"]["suspend"] is True
    assert cli("resume", name).returncode == 0
    assert cli.get(name)["spec"]["suspend"] is False
    assert cli("cancel", name).stdout == f"jobrequest.joblease.dev/{name} is being cancelled\n"
    assert cli.get(name)["spec"]["cancel"] is True


def test_retry_is_a_new_job_with_the_same_spec(cli: Cli) -> None:
    name = cli.submit("noop", "-p", "x=1", "--priority", "3")
    active = cli("retry", name)
    assert (active.returncode, "has not ended" in active.stderr) == (2, True)
    cli.becomes(name, "Failed", "False")
    done = cli("retry", name, "-o", "name")
    again = cli.get(done.stdout.strip().rpartition("/")[2])
    assert again["metadata"]["name"].startswith(f"{name}-retry-")
    assert (again["spec"]["parameters"], again["spec"]["priority"]) == ({"x": 1}, 3)
    assert again["metadata"]["annotations"]["joblease.dev/retry-of"] == name


def test_publish_by_count(cli: Cli) -> None:
    done = cli("publish", "--count", "3", "--rate", "50", "-p", "steps=1", "-o", "name")
    names = done.stdout.split()
    assert (done.returncode, len(set(names))) == (0, 3), done.stderr
    assert "3 jobs submitted" in done.stderr
    assert cli.get(names[0].rpartition("/")[2])["spec"]["handler"] == "demo"


def test_publish_by_keys_on_a_terminal(cli: Cli) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        cli.command("publish"), env=cli.environment, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True
    )
    os.close(theirs)

    def until(expected: str) -> str:
        seen = ""
        while expected not in seen:
            ready, _, _ = select.select([ours], [], [], 20)
            assert ready, seen
            seen += os.read(ours, 4096).decode()
        return seen

    until("q quits")
    for key in (b"x", b" "):
        os.write(ours, key)
        until("created")
    os.write(ours, b"q")
    until("2 jobs submitted")
    assert process.wait(10) == 0
    os.close(ours)


def test_it_is_a_kubectl_plugin_too(cli: Cli) -> None:
    done = cli("describe", "nobody", program="kubectl-joblease")
    assert done.stderr.startswith("kubectl joblease: ")
