r"""JSONPath as kubectl takes it: templates such as `{range .items[*]}{.metadata.name}{"\n"}{end}`.

A library evaluates the paths. What kubectl writes in its own way is put into the standard's: names with dashes or
escaped dots, and paths that begin without `$`. What is not there is nothing, and no error.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jsonpath

from joblease_cli.failures import CommandError, Exit

Path = jsonpath.JSONPath | jsonpath.CompoundJSONPath

_STRING = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_PIECE = re.compile(rf"""\{{((?:[^{{}}'"]|{_STRING})*)\}}|([^{{}}]+)""")
_STEP = re.compile(
    rf"""(?P<keep>{_STRING}|(?<![\w\]'"])[0-9]+\.[0-9]+)"""
    r"""|(?P<deep>\.)?\.(?:(?P<every>\*)|(?P<name>(?:[^\s.*\[\](){}'"=<>!&|,\\]|\\.)+)|(?=\[))"""
)


class _Range(NamedTuple):
    over: Path
    body: "list[_Node]"


_Node = str | Path | _Range


class Template:
    """A template, read once and then rendered for each object."""

    def __init__(self, text: str) -> None:
        """Raise `CommandError` for what cannot be read."""
        bodies: list[list[_Node]] = [[]]
        position = 0
        while position < len(text):
            piece = _PIECE.match(text, position)
            if not piece:
                raise _unreadable(text, f"a brace or a quote is not closed at {text[position:]!r}")
            position = piece.end()
            statement = (piece[1] or "").strip()
            if piece[1] is None:
                bodies[-1].append(piece[2])
            elif statement == "end":
                bodies.pop()
                if not bodies:
                    raise _unreadable(text, "{end} without {range …}")
            elif statement.startswith("range "):
                inner = _Range(path(statement.removeprefix("range ")), [])
                bodies[-1].append(inner)
                bodies.append(inner.body)
            elif re.fullmatch(_STRING, statement):
                bodies[-1].append(_unquoted(statement))
            else:
                bodies[-1].append(path(statement))
        if len(bodies) > 1:
            raise _unreadable(text, "{range …} without {end}")
        self._nodes = bodies[0]

    def render(self, found: Any) -> str:
        """The text for an object."""
        return "".join(_render(self._nodes, found))


def path(text: str) -> Path:
    """A path as kubectl writes it. Raises `CommandError`."""
    steps = text.strip()
    if steps[:1] in ("$", "@"):
        steps = steps[1:]
    elif not steps.startswith((".", "[")):
        steps = f".{steps}"
    try:
        return jsonpath.compile("$" + ("" if steps == "." else _STEP.sub(_standard, steps)))
    except jsonpath.JSONPathError as error:
        raise _unreadable(text, str(error).partition("\n")[0]) from None


def values(compiled: Path, found: Any) -> Sequence[Any]:
    """What a path finds, in order."""
    return compiled.findall(found)


def shown(value: Any) -> str:
    """Text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _render(nodes: Sequence[_Node], found: Any) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, str):
            yield node
        elif isinstance(node, _Range):
            for each in values(node.over, found):
                yield from _render(node.body, each)
        else:
            yield " ".join(shown(each) for each in values(node, found))


def _standard(step: re.Match[str]) -> str:
    if step["keep"]:
        return step["keep"].replace(r"\.", ".")
    deep = ".." if step["deep"] else ""
    if step["every"]:
        return f"{deep}[*]"
    return deep + (json.dumps([re.sub(r"\\(.)", r"\1", step["name"])]) if step["name"] else "")


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(f'"{text[1:-1]}"'))
    except ValueError:
        return text[1:-1]


def _unreadable(text: str, why: str) -> CommandError:
    return CommandError(f"the JSONPath {text!r} cannot be read: {why}", Exit.REFUSED)
