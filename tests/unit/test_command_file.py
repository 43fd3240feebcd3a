"""The file of commands: what is wrong with it is said with file and key. And the tools of shell scripts."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from joblease import JobCancelled, JobContext
from joblease_worker.command import CommandFailed, Program
from joblease_worker.commands import BadCommands, Command, read
from joblease_worker.job_document import document, variables
from joblease_worker.said import MAX_LINE, BadLine, Said

TOOL = Path(sys.modules["joblease_worker.command"].__file__ or "").parent / "tools" / "joblease"


def commands(folder: Path, text: str) -> list[Command]:
    file = folder / "commands.toml"
    file.write_text(text)
    return read(file)


def test_a_whole_command(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (found,) = commands(
        tmp_path,
        """
        ["a.b"]
        argv = ["sh", "-c", "exit 3"]
        directory = "work"
        environment = {COLOUR = "red"}
        permanent_exit_codes = [3, 4]
        grace_seconds = 0.5
        description = "Does it"
        parameters = {type = "object"}
        group = "a-{customer}"
        limit = 2
        max_attempts = 5
        deadline = "2h"
        """,
    )
    assert (found.name, found.argv, found.directory) == ("a.b", ("sh", "-c", "exit 3"), tmp_path / "work")
    assert (found.permanent_exit_codes, found.grace_seconds) == (frozenset({3, 4}), 0.5)
    assert found.describe() == {
        "name": "a.b", "description": "Does it", "parameters": {"type": "object"},
        "policy": {"group": "a-{customer}", "limit": 2, "maxAttempts": 5, "activeDeadlineSeconds": 7200},
    }  # fmt: skip


def test_a_shell_takes_a_text_only_where_it_is_named(tmp_path: Path) -> None:
    (found,) = commands(tmp_path, "[a]\nshell = 'echo $HOME | wc'")
    assert found.argv == ("/bin/sh", "-c", "echo $HOME | wc")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a\nargv = 1", r"at line 1"),
        ("[a]\nargv = []", r"\[a\] argv takes a list of texts, the program first, not '\[\]'"),
        ("[a]\nargv = ['']", r"\[a\] argv takes a list"),
        ("[a]\nargv = 'ls -l'", r"\[a\] argv takes a list of texts, the program first, not 'ls -l'"),
        ("[a]\nargv = ['ls', 1]", r"\[a\] argv takes"),
        ("[a]\nargv = ['ls', \"a\\u0000\"]", r"\[a\] argv takes"),
        ("[a]\ndescription = 'x'", r"\[a\] needs argv, a list of arguments, or shell, a text for /bin/sh; not both"),
        ("[a]\nargv = ['ls']\nshell = 'ls'", r"\[a\] needs argv"),
        ("[a]\nshell = ' '", r"\[a\] shell takes"),
        ("[a]\nargv = ['ls']\nargs = 1", r"\[a\] has an unknown key, args; there are argv, shell, directory"),
        ("[a]\nargv = ['no-such-program']", r"\[a\] argv: there is no program 'no-such-program' that can be executed"),
        ("[a]\nargv = ['./commands.toml']", r"\[a\] argv: there is no program './commands.toml' that can be"),
        ("[a]\nargv = ['ls']\nenvironment = {PATH = '/nowhere'}", r"there is no program 'ls'"),
        ("[a]\nargv = ['ls']\nenvironment = {A = 1}", r"\[a\] environment takes a table of texts"),
        ("[a]\nargv = ['ls']\nenvironment = {'A=B' = 'x'}", r"\[a\] environment takes a table of texts"),
        ("[a]\nargv = ['ls']\ndirectory = 'nowhere'", r"\[a\] directory: .*/nowhere is no directory"),
        ("[a]\nargv = ['ls']\npermanent_exit_codes = [0]", r"\[a\] permanent_exit_codes takes a list of numbers"),
        ("[a]\nargv = ['ls']\npermanent_exit_codes = 3", r"\[a\] permanent_exit_codes takes"),
        ("[a]\nargv = ['ls']\ngrace_seconds = -1", r"\[a\] grace_seconds takes a number of seconds, not '-1'"),
        ("[a]\nargv = ['ls']\ngrace_seconds = nan", r"\[a\] grace_seconds takes"),
        ("[a]\nargv = ['ls']\nlimit = 0", r"\[a\] limit is to be from 1 to 10000, not 0"),
        ("[a]\nargv = ['ls']\ngroup = '{a.b}'", r"\[a\] group '{a.b}': in braces"),
        ("[a]\nargv = ['ls']\ndeadline = 'soon'", r"\[a\] deadline is to be"),
        ("[a]\nargv = ['ls']\nparameters = {default = inf}", r"\[a\] parameters.default is inf, which JSON cannot"),
        ("a = 1", r"a is to be a table: \[a\] with argv"),
        ("['A b']\nargv = ['ls']", r"\[A b\] is no name of a handler"),
        ("[" + "a" * 64 + "]\nargv = ['ls']", r"is no name of a handler: at most 63 characters"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadCommands, match=f"{tmp_path}/commands.toml: .*{message}"):
        commands(tmp_path, text)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BadCommands, match=r"commands\.toml: No such file or directory"):
        read(tmp_path / "commands.toml")
    (tmp_path / "commands.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(BadCommands, match=r"commands\.toml: .*utf-8"):
        read(tmp_path / "commands.toml")
    (tmp_path / "commands.toml").write_bytes(b"#" * (1 << 21))
    with pytest.raises(BadCommands, match=r"commands\.toml: more than 1048576 bytes"):
        read(tmp_path / "commands.toml")


def test_the_job_as_a_command_gets_it() -> None:
    parameters = {"text": "a b", "width": 3, "deep.er": {"x": None}, "none": None, "nul": "a\0b"}
    job = JobContext("id-1", name="n", handler="h", parameters=parameters, attempt=2, last_checkpoint={"row": 1})
    found = variables(job)
    assert found["JOBLEASE_JOB_ID"] == "id-1"
    assert found["JOBLEASE_JOB_ATTEMPT"] == "2"
    assert found["JOBLEASE_JOB_LAST_CHECKPOINT"] == '{"row":1}'
    assert {name: value for name, value in found.items() if name.startswith("JOBLEASE_PARAMETER_")} == {
        "JOBLEASE_PARAMETER_TEXT": "a b", "JOBLEASE_PARAMETER_WIDTH": "3",
        "JOBLEASE_PARAMETER_DEEP_ER": '{"x":null}', "JOBLEASE_PARAMETER_NUL": "ab",
    }  # fmt: skip
    assert "JOBLEASE_JOB_INPUT_FILE_PATH" not in found
    whole = json.loads(document(job))
    assert (whole["parameters"], whole["lastCheckpoint"], whole["inputFilePath"]) == (parameters, {"row": 1}, None)


def heard(*blocks: bytes) -> tuple[list[Any], Any]:
    said: list[Any] = []
    listener = Said(JobContext("1", report=said.append))
    for block in blocks:
        listener.hear(block)
    listener.end()
    return said, listener.result


def test_lines_in_any_blocks() -> None:
    text = b'{"step": "a", "progress": 0.5}\n\n{"checkpoint": {"row": 1}}\n{"result": 1}\n'
    text += b'{"data": {"x": 1}}\r\n{"result": [2]}'
    whole = heard(text)
    assert whole == heard(*(bytes([each]) for each in text))
    assert whole == (
        [
            {"message": "a", "progress": 0.5, "data": None},
            {"checkpoint": {"row": 1}},
            {"message": "", "progress": None, "data": {"x": 1}},
        ],
        [2],
    )


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (b'{"step": 1}\n{"step"', "takes text"),
        (b"\n{'step': 1}\n", r"line 2 that it wrote on the descriptor JOBLEASE_FD is no JSON .*: \{'step'"),
        (b'{"step": "\xff"}\n', r"line 1 .* is no JSON .*utf-8.*: \{\"step\": \"\\xff\"\}"),
        (b"[1]\n", "line 1 .* is no JSON object"),
        (b"{}\n", "line 1 .* has the keys"),
        (b'{"result": 1, "step": "x"}\n', "has the keys 'result', 'step': a step has"),
        (b'{"step": "x", "more": 1}\n', "has the keys 'step', 'more'"),
        (b'{"progress": NaN}\n', "from 0 to 1, not nan"),
        (b'{"progress": 7}\n', "from 0 to 1, not 7"),
        (b'{"data": [1]}\n', "takes a JSON object"),
        (b'{"checkpoint": 1}\n', "takes a JSON object"),
        (b'{"checkpoint": {"x": "' + b"y" * 65_536 + b'"}}\n', "65536 bytes of JSON at most"),
        (b"[" * 100_000 + b"\n", "is no JSON"),
        (b"y" * (MAX_LINE + 1), "line 1 .* has more than 262144 bytes"),
        (b"y" * (MAX_LINE + 1) + b"\n", "line 1 .* has more than 262144 bytes"),
    ],
)
def test_a_line_that_says_nothing_is_an_error(block: bytes, message: str) -> None:
    with pytest.raises((BadLine, TypeError, ValueError), match=message):
        heard(block)


def told(*arguments: str) -> tuple[str, str, int]:
    """What `joblease …` writes for the worker, and for people, and its exit code."""
    read_end, write_end = os.pipe()
    path = f"{TOOL.parent}:/usr/bin:/bin"
    with os.fdopen(read_end) as reading:
        run = subprocess.run(
            [TOOL, *arguments], pass_fds=[write_end], capture_output=True, text=True, check=False,
            env={"JOBLEASE_FD": str(write_end), "JOBLEASE_PYTHON": sys.executable, "PATH": path},
        )  # fmt: skip
        os.close(write_end)
        return reading.read(), run.stderr, run.returncode


def test_the_tools_of_shell_scripts() -> None:
    assert told("step", 'a "quoted" text\n', "--progress", "0.5", "--data", '{"x": [1]}') == (
        '{"step": "a \\"quoted\\" text\\n", "progress": 0.5, "data": {"x": [1]}}\n', "", 0,
    )  # fmt: skip
    assert told("step", "--", "--progress")[0] == '{"step": "--progress"}\n'
    assert told("step", "--progress", "1")[0] == '{"progress": 1}\n'
    assert told("checkpoint", '{"row": 1}')[0] == '{"checkpoint": {"row": 1}}\n'
    assert told("result", "3")[0] == '{"result": 3}\n'


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["step"], "step takes a message"),
        (["step", "a", "b"], "one message, not also 'b'; it may need quotes"),
        (["step", "a", "--progress"], "--progress takes JSON, not ''"),
        (["step", "a", "--percent", "1"], "--percent is unknown"),
        (["step", "a", "--data", "{x}"], "--data takes JSON, not '{x}'"),
        (["checkpoint"], "checkpoint takes one argument, JSON"),
        (["result", "a b"], "result takes JSON, not 'a b'"),
        (["list"], "the command line is not installed here"),
        ([], "the command line is not installed here"),
    ],
)
def test_a_wrong_call_of_a_tool(arguments: list[str], message: str) -> None:
    written, error, code = told(*arguments)
    assert (written, code) == ("", 2)
    assert error.startswith(f"joblease: {message}")


def test_other_words_are_the_command_lines(tmp_path: Path) -> None:
    other = tmp_path / "joblease"
    other.write_text('#!/bin/sh\necho "other: $*"\n')
    other.chmod(0o755)
    run = subprocess.run(
        ["joblease", "list", "-A"], capture_output=True, text=True, check=True,
        env={"JOBLEASE_PYTHON": sys.executable, "PATH": f"{TOOL.parent}:{tmp_path}:/usr/bin:/bin"},
    )  # fmt: skip
    assert run.stdout == "other: list -A\n"


def run_here(folder: Path, shell: str, **job: Any) -> tuple[Any, list[Any]]:
    said: list[Any] = []
    (found,) = commands(folder, f"[a]\nshell = '''{shell}'''\n")
    before = os.getcwd()  # noqa: PTH109
    try:
        return Program(found)(JobContext("1", report=said.append, **job)), said
    finally:
        os.chdir(before)


def test_a_command_runs_without_a_worker(tmp_path: Path) -> None:
    result, said = run_here(tmp_path, 'pwd >&2; read -r job; printf "{\\"result\\": %s}" "$job" >&"$JOBLEASE_FD"')
    assert (result["id"], said) == ("1", [])


def test_a_closed_descriptor_and_one_that_a_grandchild_keeps(tmp_path: Path) -> None:
    assert run_here(tmp_path, "exec 3>&-; sleep 0.1") == (None, [])
    result, _ = run_here(tmp_path, '(sleep 60) & echo "{\\"result\\": 1}" >&3')
    assert result == 1
    result, _ = run_here(tmp_path, 'setsid sh -c "sleep 0.3" & echo "{\\"result\\": 2}" >&3')
    assert result == 2


def test_how_a_command_fails_is_told(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed) as failed:
        run_here(tmp_path, "seq 1000 >&2; printf '\\377' >&2; exit 3".replace("'", '"'))
    first, *lines = str(failed.value).splitlines()
    assert first == "handler 'a': its command ended with exit code 3; the end of its standard error:"
    assert lines == [*map(str, range(982, 1001)), "\\xff"]
    with pytest.raises(CommandFailed, match=r"its command was killed by SIGKILL: out of memory, most likely$"):
        run_here(tmp_path, "kill -9 $$")
    with pytest.raises(
        CommandFailed, match="handler 'a': line 1 that it wrote on the descriptor JOBLEASE_FD is no JSON"
    ):
        run_here(tmp_path, "echo oops >&3; sleep 60")


def test_a_job_that_was_cancelled_stops_its_command_at_its_next_step(tmp_path: Path) -> None:
    with pytest.raises(JobCancelled):
        run_here(tmp_path, 'echo "{\\"step\\": \\"x\\"}" >&3; sleep 60', cancelled=True)
