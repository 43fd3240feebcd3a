"""`joblease submit -f`, and what is done to selected jobs: all or none, and nothing by mistake."""

import json
from pathlib import Path

import pytest
from joblease_cli.failures import Exit
from support.cli import Cli

HEAD = "apiVersion: joblease.dev/v1alpha1\nkind: JobRequest\n"
GOOD = f"{HEAD}metadata: {{name: good}}\nspec: {{handler: noop}}\n"


def names(cli: Cli) -> list[str]:
    return cli("list", "-o", "name").stdout.split()


def test_documents_of_yaml_and_json_are_submitted(cli: Cli, tmp_path: Path) -> None:
    late = f"{HEAD}metadata: {{name: late}}\nspec: {{handler: noop, startAfter: 2099-01-01T00:00:00Z}}\n"
    (tmp_path / "jobs.yaml").write_text(f"---\n{GOOD}---\n---\n{late}")
    done = cli("submit", "-f", str(tmp_path / "jobs.yaml"), "-o", "name")
    assert (done.returncode, done.stdout.count("\n")) == (0, 2), done.stderr
    assert cli.get("late")["spec"]["startAfter"] == "2099-01-01T00:00:00Z"
    assert cli.get("late")["metadata"]["annotations"]["joblease.dev/traceparent"]
    body = {"apiVersion": "joblease.dev/v1alpha1", "kind": "JobRequest", "spec": {"handler": "noop"}}
    text = json.dumps(body) + json.dumps({"kind": "List", "items": [body, body]})
    assert cli("submit", "-f", "-", text=text).returncode == 0
    assert len(names(cli)) == 5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{HEAD}spec: {{handler: noop, priority: 10}}", "document 2: spec.priority: "),
        (f"{HEAD}spec: {{handler: noop, wait: 3}}", "document 2: spec.wait: "),
        (f"{HEAD}spec: {{handler: noop, priority: '1'}}", "document 2: spec.priority: "),
        (f"{HEAD}spec: {{handler: noop}}\nstatus: {{}}", "document 2: status: "),
        (f"{HEAD}metadata: {{uid: x}}\nspec: {{handler: noop}}", "document 2: metadata.uid: "),
        (f"{HEAD}metadata: {{labels: {{a: 1}}}}\nspec: {{handler: noop}}", "document 2: metadata.labels.a: "),
        (f"{HEAD}metadata: {{namespace: other}}\nspec: {{handler: noop}}", "document 2: metadata.namespace: "),
        (f"{HEAD}metadata: {{name: No Name}}\nspec: {{handler: noop}}", "metadata.name"),
        (f"{HEAD}metadata: {{name: good}}\nspec: {{handler: noop}}", "document 2: metadata.name: "),
        (f"{HEAD}spec: {{handler: noop, handler: other}}", "document 2: it cannot be read: 'handler' is there twice"),
        ("kind: Pod", "document 2: apiVersion: "),
        ("[1]", "document 2: the document: "),
        ("a: [", "document 2: it cannot be read: "),
        (f"{HEAD}spec: {{handler: noop, parameters: {{a: .nan}}}}", "document 2: spec: "),
    ],
)
def test_when_one_is_wrong_none_is_submitted(cli: Cli, tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text(f"{GOOD}---\n{text}\n")
    done = cli("submit", "-f", str(file))
    assert (done.returncode, done.stdout) == (Exit.REFUSED, ""), done.stderr
    assert done.stderr.startswith(f"joblease: nothing was submitted. {file}, document 2: "), done.stderr
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert names(cli) == []


def test_files_that_are_none_and_options_that_have_no_meaning(cli: Cli, tmp_path: Path) -> None:
    missing = cli("submit", "-f", str(tmp_path / "missing.yaml"))
    assert (missing.returncode, "missing.yaml: it cannot be read" in missing.stderr) == (Exit.REFUSED, True)
    assert "there is no JobRequest in -" in cli("submit", "-f", "-", text="---\n").stderr
    assert "priority has no meaning there" in cli("submit", "-f", "-", "--priority", "3", text=GOOD).stderr
    assert "name a handler, or files" in cli("submit").stderr


def test_selected_jobs_are_counted_and_asked_about(cli: Cli) -> None:
    for name, handler in (("a", "one"), ("b", "one"), ("c", "two")):
        cli.submit(handler, "--name", name, "--label", "team=a")
    cli.becomes("b", "Running")
    dry = cli("cancel", "-l", "team=a", "--handler", "one", "--dry-run")
    assert dry.stdout.splitlines()[-1] == "2 jobs would be cancelled"
    assert cli("cancel", "--state", "Running", "--dry-run").stdout.endswith(
        "b would be cancelled\n1 job would be cancelled\n"
    )
    assert cli("suspend", "--state", "Submitted", "--dry-run").stdout.endswith("2 jobs would be suspended\n")
    assert not any(cli.get(name)["spec"].get("cancel") for name in "abc")
    assert cli("cancel", "a", "--handler", "one").returncode == Exit.REFUSED
    shown = cli.on_a_terminal("cancel", "--handler", "one", answer="n\n")
    assert "2 jobs of namespace" in shown
    assert "nothing was done" in shown
    assert not cli.get("a")["spec"].get("cancel")
    cli.on_a_terminal("cancel", "--handler", "one", answer="y\n")
    assert [bool(cli.get(name)["spec"].get("cancel")) for name in "abc"] == [True, True, False]
    assert "Go on" not in cli.on_a_terminal("cancel", "--all", "--yes")
    assert cli.get("c")["spec"]["cancel"]
    cli.becomes("c", "Cancelled", "False")
    assert cli("retry", "--all").stdout == ""
    assert cli("retry", "--state", "Cancelled").stdout.count("created") == 1
