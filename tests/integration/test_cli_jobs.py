"""Jobs that are labelled, selected, named together; what was typed stays as it was typed."""

from pathlib import Path
from typing import Any

from joblease_cli.failures import Exit
from support.cli import Cli


def test_text_can_be_forced_and_a_number_that_changes_is_announced(cli: Cli) -> None:
    done = cli("submit", "x", "--name", "typed", "-p", "a=1.10", "--text", "b=1.10", "-p", "c=1.5", "-p", 'd="7"')
    assert done.returncode == 0, done.stderr
    assert cli.get("typed")["spec"]["parameters"] == {"a": 1.1, "b": "1.10", "c": 1.5, "d": "7"}
    assert done.stderr == "-p a=1.10 is the number 1.1; for the text: --text a=1.10\n"
    refused = cli("submit", "x", "-p", "account=12345678901234567890")  # the API server would round it
    assert (refused.returncode, "--text account=12345678901234567890" in refused.stderr) == (2, True)


def test_options_stand_before_the_command_too(cli: Cli) -> None:
    other = f"{cli.namespace}-other"
    name = cli.submit("x", "--label", "app=shop")
    cli.submit("x")
    cli.namespace, ours = other, cli.namespace
    try:
        done = cli("-n", "nowhere", "-o", "name", "--selector=app=shop", "list", "--namespace", ours)
    finally:
        cli.namespace = ours
    assert (done.returncode, done.stdout) == (0, ""), done.stderr  # the last one counts, as with kubectl
    done = cli("-o", "name", "--selector=app=shop", "--request-timeout", "1m", "list")
    assert (done.returncode, done.stdout) == (0, f"jobrequest.joblease.dev/{name}\n"), done.stderr


def test_labels_are_set_selected_shown_and_kept_by_a_retry(cli: Cli) -> None:
    first = cli.submit("x", "--label", "app=shop", "--label", "app.kubernetes.io/instance=argo")
    second = cli.submit("x", "--label", "app=shop", "--label", "tier=web")
    cli.submit("x")
    assert cli.get(second)["metadata"]["labels"] == {"app": "shop", "tier": "web"}
    assert cli("list", "-l", "app=shop,tier!=web", "-o", "name").stdout == f"jobrequest.joblease.dev/{first}\n"
    assert "app=shop,tier=web" in cli("list", "--show-labels").stdout
    cli.becomes(first, "Failed", "False")
    cli.becomes(second, "Completed", "True")
    done = cli("retry", "-l", "app=shop", "--label", "again=yes", "-o", "name")
    assert done.returncode == 0, done.stderr
    (again,) = done.stdout.split()  # of those that are selected, the failed one
    labels = cli.get(again.rpartition("/")[2])["metadata"]["labels"]
    assert labels == {"app": "shop", "again": "yes"}  # no other program's mark of what it owns


def test_each_named_job_is_done_whatever_becomes_of_the_others(cli: Cli) -> None:
    one, two = cli.submit("x"), cli.submit("x")
    done = cli("cancel", "nobody", one, "no-one", two)
    assert done.returncode == Exit.NOT_FOUND
    assert done.stdout == "".join(f"jobrequest.joblease.dev/{name} is being cancelled\n" for name in (one, two))
    assert ("no job 'nobody'" in done.stderr, "no job 'no-one'" in done.stderr) == (True, True)
    assert [cli.get(name)["spec"]["cancel"] for name in (one, two)] == [True, True]
    done = cli("suspend", "nobody", one)
    assert (done.returncode, cli.get(one)["spec"]["suspend"]) == (Exit.NOT_FOUND, True)


def test_jobs_are_selected_by_labels_or_all(cli: Cli) -> None:
    shop, other, ended = (cli.submit("x", "--label", f"app={app}") for app in ("shop", "other", "shop"))
    cli.becomes(ended, "Completed", "True")
    assert cli("suspend", "-l", "app=shop").stdout == f"jobrequest.joblease.dev/{shop} suspended\n"
    assert cli("resume", "--all").stdout == f"jobrequest.joblease.dev/{shop} resumed\n"
    cancelled = cli("cancel", "--all")
    assert (cancelled.returncode, len(cancelled.stdout.splitlines())) == (0, 2)
    assert cli.get(other)["spec"]["cancel"] is True
    assert cli.get(ended)["spec"]["cancel"] is False
    for arguments in (("cancel",), ("cancel", "--all", shop), ("cancel", "--all", "-l", "app=shop")):
        assert cli(*arguments).returncode == Exit.REFUSED


def test_times_are_read_as_go_writes_them(cli: Cli) -> None:
    name = cli.submit("x", "--deadline", "1h30m", "--ttl", "1.5h")
    spec: dict[str, Any] = cli.get(name)["spec"]
    assert (spec["activeDeadlineSeconds"], spec["ttlSecondsAfterFinished"]) == (5400, 5400)
    assert cli("submit", "x", "--wait", "--timeout", "500ms").returncode == Exit.TIMEOUT


def test_what_nobody_expected_has_an_exit_code_of_its_own(cli: Cli, tmp_path: Path) -> None:
    cli.environment["PYTHONPATH"] = str(tmp_path)
    (tmp_path / "sitecustomize.py").write_text(
        "import joblease_cli.watch as watch\ndef states(*_): raise RuntimeError('a [fault]')\nwatch.states = states\n"
    )
    name = cli.submit("x")
    done = cli("follow", name)
    assert done.returncode == Exit.FAULT
    assert done.stderr.startswith("joblease: unexpected RuntimeError: a [fault]. ")
    assert done.stderr.count("\n") == 1
    cli.environment["JOBLEASE_DEBUG"] = "1"
    assert "Traceback" in cli("follow", name).stderr
    (tmp_path / "sitecustomize.py").unlink()
    (tmp_path / "rich.py").write_text("1 / 0")
    broken = cli("list")
    assert (broken.returncode, broken.stderr) == (
        Exit.FAULT, "joblease: cannot be started: ZeroDivisionError: division by zero\n",
    )  # fmt: skip
    (tmp_path / "rich.py").write_text("raise ModuleNotFoundError(\"No module named 'rich'\", name='rich')")
    lacking = cli("list")
    assert (lacking.returncode, "pip install 'joblease[cli]'" in lacking.stderr) == (Exit.FAULT, True)
