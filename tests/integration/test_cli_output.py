"""What is printed: for programs what kubectl prints, for people text that is text."""

import asyncio
import json
import subprocess
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from joblease_cli.commands import ROOT
from support.cli import Cli, kubectl

SLOW_PLUGIN = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "sleep", "args": ["90"],
                        "interactiveMode": "Never"}}  # fmt: skip
MARKUP = "[/data/in.csv] [info] :id: [red]x[/red] \x1b[31m\\"
SHOWN = "[/data/in.csv] [info] :id: [red]x[/red] \\x1b[31m\\"
FORMS = (
    "jsonpath={.items[*].metadata.name}",
    'jsonpath={range .items[*]}{.metadata.name}{"\\t"}{.spec.parameters}{"\\n"}{end}',
    'jsonpath={.items[?(@.metadata.name=="b")].spec.handler} and {..priority}!',
    "jsonpath={.items[-1:].metadata.labels.app-x},{.items[0].metadata.labels.example\\.org/y}",
    "jsonpath={.items[0]['metadata'].name}{.items[*].nothing}{.kind}",
    "jsonpath={.items[0,1].metadata.name}{@.kind}{$.kind}",
    'jsonpath={.items[*].status.conditions[?(@.type=="Succeeded")].reason}',
    'custom-columns=NAME:.metadata.name,WHY:{.status.conditions[?(@.type=="Succeeded")].reason},X:metadata.labels.app-x',
    "name",
)
EXPECTED = (
    "a b",
    'a\t{"n":1}\nb\t{"t":["x",true]}\n',
    "second and 0 3!",
    "2,here",
    "a" + "{kind}",
    "a b{kind}{kind}",
    "Running",
    "NAME   WHY       X\na      Running   <none>\nb      <none>    2\n",
    "jobrequest.joblease.dev/a\njobrequest.joblease.dev/b\n",
)


@pytest.fixture
def two(cli: Cli) -> Cli:
    cli.submit("first", "--name", "a", "-p", "n=1", "--label", "example.org/y=here")
    cli.submit("second", "--name", "b", "-p", 't=["x",true]', "--priority", "3", "--label", "app-x=2")
    cli.becomes("a", "Running", progress=40)
    return cli


def test_forms_for_programs_are_those_of_kubectl(two: Cli) -> None:
    for form, expected in zip(FORMS, EXPECTED, strict=True):
        done = two("list", "-o", form)
        assert (done.returncode, done.stdout) == (0, expected.replace("{kind}", "JobRequestList")), (form, done.stderr)
        theirs = two.kubectl("get", "jr", "-o", form)
        # its list is one of anything
        assert theirs is None or theirs.strip() == expected.replace("{kind}", "List").strip(), form


@pytest.mark.parametrize("form", ["jsonpath={.a", "jsonpath={range .a}", "jsonpath={end}", "jsonpath={.a[}", "jsonpath",
                                  "custom-columns=A", "jsonpath-file=/nowhere", "xml", "json=1"])  # fmt: skip
def test_a_form_that_cannot_be_read_is_refused(cli: Cli, form: str) -> None:
    done = cli("list", "-o", form)
    assert (done.returncode, done.stderr.count("\n"), done.stdout) == (2, 1, "")


@pytest.mark.parametrize(
    "form", ["json", "jsonpath={.metadata.name} {.status.progress}\n", "custom-columns=P:.status.progress"]
)
async def test_a_watch_prints_each_change_by_itself(two: Cli, form: str) -> None:
    watching = await asyncio.create_subprocess_exec(
        *two.command("list", "-w", "-o", form), env=two.environment, stdout=subprocess.PIPE
    )
    assert watching.stdout
    seen = ""

    async def until(text: str) -> None:
        nonlocal seen
        assert watching.stdout
        async with asyncio.timeout(60):
            while text not in seen:
                seen += (await watching.stdout.read(65_536)).decode()

    last = {"json": '"b"', "custom-columns=P:.status.progress": "<none>"}.get(form, "b \n")
    await until(last)
    two.becomes("a", "Running", progress=77)
    await until('"progress": 77' if form == "json" else "77")
    watching.terminate()
    seen += (await watching.communicate())[0].decode()
    if form == "json":
        found, decoder = [], json.JSONDecoder()
        while seen.strip():
            each, end = decoder.raw_decode(seen.lstrip())
            found.append((each["kind"], each["metadata"]["name"]))
            seen = seen.lstrip()[end:]
        assert found == [("JobRequest", "a"), ("JobRequest", "b"), ("JobRequest", "a")]
    else:
        assert seen == {"custom-columns=P:.status.progress": "P\n40\n<none>\n77\n"}.get(form, "a 40\nb \na 77\n")


def test_text_is_text_on_a_terminal_too(cli: Cli) -> None:
    name = cli.submit("x", "--description", "[/x] :id: [info]")
    cli.becomes(name, "Failed", "False")
    cli._api.patch_namespaced_custom_object_status(
        group="joblease.dev", version="v1alpha1", plural="jobrequests", namespace=cli.namespace, name=name,
        body={"status": {"message": MARKUP, "worker": "[bold]:id:"}},
    )  # fmt: skip
    wide = cli.on_a_terminal("list", "-o", "wide", columns=250)
    assert (SHOWN in wide, "[bold]:id:" in wide) == (True, True), wide
    for arguments in (("describe", name), ("follow", name)):
        shown = cli.on_a_terminal(*arguments, columns=250)
        assert SHOWN in shown, shown
    assert "[/x] :id: [info]" in cli.on_a_terminal("describe", name)
    raw = cli.on_a_terminal("list", "-o", "jsonpath={.items[0].status.message}")
    assert raw == SHOWN
    for wrong in ("[red]:id:", "[info]"):
        assert wrong in cli.on_a_terminal("describe", wrong, columns=250)
        assert wrong in cli.on_a_terminal(wrong, columns=250)


def test_long_text_gives_way_on_a_narrow_terminal(cli: Cli) -> None:
    name = cli.submit("x", "--name", "a" + "-long" * 19)
    cli.becomes(name, "WaitingForGroup", progress=7)
    for columns in (60, 80, 100):
        lines = cli.on_a_terminal("list", columns=columns).splitlines()
        (row,) = (line for line in lines if line.startswith("a-"))
        assert ("WaitingForGroup" in row, "7%" in row, "…" in row) == (True, True, True)
        assert max(map(len, lines)) <= columns
    folded = "".join(
        line[:40].split(" ")[0] for line in cli.on_a_terminal("list", "-o", "wide", columns=100).splitlines()
    )
    assert name in folded


def test_help_fits_the_terminal(cli: Cli) -> None:
    for command in ("submit", "list", "describe", "follow", "cancel", "suspend", "resume", "retry", "publish", ""):
        shown = cli.on_a_terminal(*filter(None, [command]), "--help", columns=60)
        assert max(map(len, shown.splitlines())) <= 60
        assert "--context" in shown


def complete(line: str) -> list[str]:
    *before, typed = line.split(" ")
    return [each.value for each in ShellComplete(ROOT, {}, "joblease", "").get_completions(before, typed)]


def test_commands_options_and_names_are_completed(two: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", two.environment["KUBECONFIG"])
    here = f"-n {two.namespace}"
    assert complete("desc") == ["describe"]
    assert complete("list --sel") == ["--selector"]
    assert complete("list --status Co") == ["Completed"]
    assert complete(f"{here} describe ") == ["a", "b"]
    assert complete(f"cancel {here} a ") == ["b"]
    assert complete(f"submit {here} fi") == ["first"]
    assert complete(f"list -n {two.namespace[:-1]}") == [two.namespace]
    assert complete("--context job") == complete("list --context job") != []
    nowhere = two.kubeconfig(
        tmp_path / "away", lambda content: content["clusters"][0]["cluster"].update(server="https://127.0.0.1:1")
    )
    assert complete(f"describe --kubeconfig {nowhere} ") == []


def test_completion_does_not_wait_for_a_slow_plug_in(cli: Cli, tmp_path: Path) -> None:
    silent = cli.kubeconfig(tmp_path / "silent", lambda content: content["users"][0].update(user=SLOW_PLUGIN))
    program = cli.command(program="kubectl_complete-joblease")[0]
    done = subprocess.run(
        [program, "--kubeconfig", silent, "describe", ""],
        env=cli.environment, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == (":4\n", "")


def test_bash_completes(two: Cli) -> None:
    folder, _, _ = two.command()[0].rpartition("/")
    script = (
        f"PATH={folder}:$PATH; source <(joblease completion bash);"
        f"COMP_WORDS=(joblease -n {two.namespace} describe '');"
        'COMP_CWORD=4; _joblease_completion joblease; echo "${COMPREPLY[*]}"'
    )
    done = subprocess.run(
        ["bash", "-c", script], env=two.environment, capture_output=True, text=True, timeout=100, check=True
    )
    assert done.stdout == "a b\n"


@pytest.mark.skipif(kubectl() is None, reason="needs kubectl")
def test_kubectl_completes_the_plugin(two: Cli) -> None:
    two.environment["PATH"] = f"{two.command()[0].rpartition('/')[0]}:{two.environment['PATH']}"
    done = subprocess.run(
        [str(kubectl()), "__complete", "joblease", "-n", two.namespace, "describe", ""],
        env=two.environment, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["a", "b", ":4"]
