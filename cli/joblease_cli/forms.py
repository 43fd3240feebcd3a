"""`-o`: how objects are printed when a program reads them; what each form prints is what kubectl prints."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import yaml

from joblease_cli import jsonpath, output
from joblease_cli.failures import CommandError, Exit
from joblease_cli.job import API_VERSION, Job

Raw = Mapping[str, Any]

PLAIN = ("json", "yaml", "name", "jsonpath=…", "jsonpath-file=…", "custom-columns=…")


class Form(Protocol):
    """A way to print objects."""

    def one(self, found: Raw) -> None:
        """One object by itself: what was asked for by name, or one change of a watch."""

    def many(self, found: Sequence[Raw], name: str = "") -> None:
        """A list of JobRequests, or what the dashboard's API lists by that name."""


class _Whole:
    """One text for each object, or for the list of them."""

    def __init__(self, text: Callable[[Raw], str], between: str = "") -> None:
        self._text = text
        self._between, self._first = between, True

    def one(self, found: Raw) -> None:
        output.raw(("" if self._first else self._between) + self._text(found))
        self._first = False

    def many(self, found: Sequence[Raw], name: str = "") -> None:
        if name:
            self.one({name: list(found)})
            return
        self.one({"apiVersion": API_VERSION, "kind": "JobRequestList", "items": list(found)})


class _Name:
    def one(self, found: Raw) -> None:
        output.line(Job(found).reference)

    def many(self, found: Sequence[Raw], name: str = "") -> None:  # noqa: ARG002 - a `Form`
        for each in found:
            self.one(each)


class _Columns:
    """`custom-columns=NAME:.metadata.name,…`; a path that finds nothing is `<none>`."""

    def __init__(self, text: str) -> None:
        columns = [part.partition(":") for part in re.split(r",(?![^\[]*\])", text)]
        if not all(name and path for name, _, path in columns):
            raise CommandError("custom-columns: expected NAME:.path,NAME:.path,…", Exit.REFUSED)
        self._header = [name for name, _, _ in columns]
        # kubectl takes {.path}, .path and path
        self._paths = [jsonpath.path(re.sub(r"^\{(.*)\}$", r"\1", path.strip())) for _, _, path in columns]
        self._first = True

    def one(self, found: Raw) -> None:
        self.many([found])

    def many(self, found: Sequence[Raw], name: str = "") -> None:  # noqa: ARG002 - a `Form`
        rows = [[self._cell(path, each) for path in self._paths] for each in found]
        output.aligned([*([self._header] if self._first else []), *rows])
        self._first = False

    @staticmethod
    def _cell(path: jsonpath.Path, found: Raw) -> str:
        return output.clean(",".join(map(jsonpath.shown, jsonpath.values(path, found)))) or "<none>"


def form(text: str) -> Form:
    """The form that -o names. Raises `CommandError`."""
    name, _, argument = text.partition("=")
    match name:
        case "json" if name == text:
            return _Whole(lambda found: json.dumps(found, indent=4, ensure_ascii=False) + "\n")
        case "yaml" if name == text:
            return _Whole(lambda found: yaml.safe_dump(found, sort_keys=False, allow_unicode=True), "---\n")
        case "name" if name == text:
            return _Name()
        case "jsonpath" if argument:
            return _Whole(jsonpath.Template(argument).render)
        case "jsonpath-file" if argument:
            return _Whole(jsonpath.Template(_read(argument)).render)
        case "custom-columns" if argument:
            return _Columns(argument)
    raise CommandError(f"expected one of {', '.join(PLAIN)}, not {text!r}", Exit.REFUSED)


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8").rstrip("\n")
    except (OSError, ValueError) as error:
        raise CommandError(f"jsonpath-file={file}: {error}", Exit.REFUSED) from None
