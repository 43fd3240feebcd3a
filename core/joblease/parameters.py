"""Fits a job's parameters to its handler's signature: where it is submitted, and before the handler is called.

A wrong parameter is the submitter's mistake, not the handler's: it is reported by name, all of them at once, and the
job fails without another attempt. An annotation that cannot be resolved, or that pydantic has no opinion about, is
taken for `Any`: what cannot be described can still be run.
"""

import contextlib
import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from joblease import values
from joblease.handlers import PermanentError, policy_of

Handler = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class _Parameter:
    name: str
    adapter: TypeAdapter[Any] | None
    """None takes anything."""
    required: bool
    default: Any


@dataclass(frozen=True, slots=True)
class _Signature:
    first: str
    """The `JobContext`'s."""
    parameters: list[_Parameter]
    rest: bool
    """Whether it takes `**anything`."""


def fit(name: str, function: Handler, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments for `function`, converted to its annotations. Raises `PermanentError`.

    The first argument (the `JobContext`) is left out. Parameters that the function does not name are passed only when
    it takes `**anything`.
    """
    signature = _signature(function)
    arguments: dict[str, Any] = {}
    problems: list[str] = []
    for each in signature.parameters:
        if each.name in parameters:
            try:
                value = parameters[each.name]
                arguments[each.name] = each.adapter.validate_python(value) if each.adapter else value
            except ValidationError as error:
                problems += [f"{_path(each.name, one['loc'])}: {one['msg']}" for one in error.errors()]
        elif each.required:
            problems.append(f"{each.name}: required, but not given")
    if problems:
        raise PermanentError(f"the parameters do not fit handler {name!r}: " + "; ".join(problems))
    if signature.rest:
        named = {signature.first, *(each.name for each in signature.parameters)}
        arguments |= {key: value for key, value in parameters.items() if key not in named}
    return arguments


def describe(name: str, function: Handler) -> dict[str, Any]:
    """Name, description and JSON schema of the parameters: a `HandlerDescription` as JSON. Never raises."""
    try:
        text = (inspect.getdoc(function) or "").split("\n\n")[0]
        known: dict[str, Any] = values.json_value(
            {"name": name, "description": text, "parameters": _schema(_signature(function))}, name
        )
    except Exception:  # noqa: BLE001 - whatever is wrong with one handler must not keep the others from being served
        known = {"name": name, "description": "", "parameters": {}}
    policy = policy_of(name)
    return known | ({"policy": policy.plain()} if policy else {})


def _schema(signature: _Signature) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for each in signature.parameters:
        properties[each.name] = _adapter_schema(each.adapter)
        if not each.required:
            with contextlib.suppress(Exception):  # a default that is no JSON is not shown, whatever it says to that
                properties[each.name]["default"] = values.json_value(each.default, each.name)
    required = [each.name for each in signature.parameters if each.required]
    return {"type": "object", "properties": properties, "required": required}


def _adapter_schema(adapter: TypeAdapter[Any] | None) -> dict[str, Any]:
    try:
        return adapter.json_schema() if adapter else {}
    except Exception:  # noqa: BLE001 - nothing that JSON could say, or a hook of the type's own that fails
        return {}


_known: dict[int, tuple[Handler, _Signature]] = {}


def _signature(function: Handler) -> _Signature:
    """Worked out once for each handler: it takes longer than many handlers run."""
    if id(function) not in _known:
        _known[id(function)] = function, _read_signature(function)
    return _known[id(function)][1]


def _read_signature(function: Handler) -> _Signature:
    first, *others = inspect.signature(function).parameters.values()
    parameters = [
        _Parameter(each.name, _adapter(each.annotation, function), each.default is each.empty, each.default)
        for each in others
        if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
    ]
    rest = any(each.kind is each.VAR_KEYWORD for each in others)
    return _Signature("" if first.kind is first.POSITIONAL_ONLY else first.name, parameters, rest)


def _adapter(annotation: Any, function: Handler) -> TypeAdapter[Any] | None:
    """Of one annotation, apart from the others: a name that only type checkers import spoils no other parameter."""
    if annotation is inspect.Parameter.empty:
        return None
    try:
        holder = types.SimpleNamespace(__annotations__={"it": annotation})
        hint = typing.get_type_hints(holder, _names(function), include_extras=True)["it"]
        return TypeAdapter(hint)
    except Exception:  # noqa: BLE001 - see the module's docstring
        return None


def _names(function: Any) -> dict[str, Any]:
    """The names that its annotations can use."""
    while isinstance(function, functools.partial) or hasattr(function, "__wrapped__"):
        function = function.func if isinstance(function, functools.partial) else function.__wrapped__
    if not hasattr(function, "__globals__"):  # an object that can be called
        function = type(function).__call__
    names: dict[str, Any] = getattr(function, "__globals__", {})
    return names


def _path(name: str, location: tuple[int | str, ...]) -> str:
    return ".".join([name, *map(str, location)])
