"""Reads the file that `JOBLEASE_COMMANDS` names: handlers that are commands, each a table by its handler's name.

A command is a list of arguments, which no shell looks at, or a text for `/bin/sh` when its key is `shell`. All that is
wrong is said at the worker's start, with the file and the key: a mistake found by the first job would be an outage.
"""

import os
import shutil
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from joblease import values
from joblease.limits import MAX_NAME, NAME_PATTERN, is_name
from joblease.policy import HandlerPolicy
from joblease.written_policy import KEYS, written

VARIABLE = "JOBLEASE_COMMANDS"
SHELL = "/bin/sh"
MAX_FILE_BYTES = 1 << 20


class BadCommands(Exception):
    """The file cannot be used; the text names it, and the key."""


@dataclass(frozen=True, slots=True)
class Command:
    """A handler that is a command."""

    name: str
    file: Path
    argv: tuple[str, ...]
    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    permanent_exit_codes: frozenset[int] = frozenset()
    grace_seconds: float | None = None
    """From SIGTERM to SIGKILL; None: until the worker kills it."""
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """JSON schema; it is announced, and the command checks what it is given."""
    policy: HandlerPolicy | None = None

    def variables(self, base: Mapping[str, str]) -> dict[str, str]:
        """Its environment: its own variables over those of the handler process."""
        return {**base, **self.environment}

    def executable(self, base: Mapping[str, str]) -> str | None:
        """The path of its program, by the PATH that the command has; None when there is none that can be executed."""
        program = self.argv[0]
        if "/" in program:
            program = str(self.directory / program)
        return shutil.which(program, path=self.variables(base).get("PATH", os.defpath))

    def describe(self) -> dict[str, Any]:
        """A `HandlerDescription` as JSON."""
        known = {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}
        return known | ({"policy": self.policy.plain()} if self.policy else {})


def read(file: Path, base: Mapping[str, str] = os.environ) -> list[Command]:
    """All commands of a file, whose programs are there in the environment `base`. Raises `BadCommands`."""
    file = file.absolute()
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise BadCommands(f"{file}: more than {MAX_FILE_BYTES} bytes")
        tables = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise BadCommands(f"{file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # of TOML and of UTF-8
        raise BadCommands(f"{file}: {error}") from None
    try:
        return [_command(file, name, table, base) for name, table in tables.items()]
    except (TypeError, ValueError) as error:
        raise BadCommands(f"{file}: {error}") from None


def _command(file: Path, name: str, table: object, base: Mapping[str, str]) -> Command:
    """Raises `TypeError` or `ValueError`, which names the key."""
    if not is_name(name):
        raise ValueError(f"[{name}] is no name of a handler: at most {MAX_NAME} characters, {NAME_PATTERN}")
    if not isinstance(table, dict):
        raise TypeError(f"{name} is to be a table: [{name}] with argv = […]")
    for key in table:
        if key not in (*_KEYS, *KEYS):
            raise ValueError(f"[{name}] has an unknown key, {key}; there are {', '.join((*_KEYS, *KEYS))}")
    given = {key: _checked(name, key, value) for key, value in table.items() if key not in KEYS}
    try:
        policy = written(**{key: table[key] for key in KEYS if key in table})
    except (TypeError, ValueError) as error:
        raise ValueError(f"[{name}] {error}") from None
    if ("argv" in given) == ("shell" in given):
        raise ValueError(f"[{name}] needs argv, a list of arguments, or shell, a text for {SHELL}; not both")
    if "shell" in given:
        given["argv"] = [SHELL, "-c", given.pop("shell")]
    directory = file.parent / given.get("directory", "")
    if not directory.is_dir():
        raise ValueError(f"[{name}] directory: {directory} is no directory")
    command = Command(
        **{
            **given,
            "name": name,
            "policy": HandlerPolicy(**policy) if policy else None,
            "file": file,
            "argv": tuple(given["argv"]),
            "directory": directory,
            "permanent_exit_codes": frozenset(given.get("permanent_exit_codes", ())),
        }
    )
    if command.executable(base) is None:
        raise ValueError(f"[{name}] argv: there is no program {command.argv[0]!r} that can be executed")
    return command


def _checked(name: str, key: str, value: Any) -> Any:
    expected, fits = _KEYS[key]
    if not fits(value):
        raise ValueError(f"[{name}] {key} takes {expected}, not {str(value)[:100]!r}")
    if key == "parameters":
        return values.json_value(value, f"[{name}] {key}")
    return value


def _text(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")


def _texts(value: object) -> bool:
    return isinstance(value, dict) and all("=" not in key and "\0" not in key and _text(value[key]) for key in value)


def _codes(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, int) and 0 < each < 256 for each in value)


_KEYS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "argv": (
        "a list of texts, the program first",
        lambda value: isinstance(value, list) and bool(value) and all(map(_text, value)) and bool(value[0]),
    ),
    "shell": (f"a text for {SHELL} -c", lambda value: _text(value) and bool(value.strip())),
    "directory": ("a path, from the file's folder", _text),
    "environment": ("a table of texts", _texts),
    "permanent_exit_codes": ("a list of numbers from 1 to 255", _codes),
    "grace_seconds": ("a number of seconds", _number),
    "description": ("a text", _text),
    "parameters": ("a JSON schema as a table", lambda value: isinstance(value, dict)),
}
