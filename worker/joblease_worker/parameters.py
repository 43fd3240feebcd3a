"""Fits a job's parameters to its handler's signature, before the handler is called.

A wrong parameter is the submitter's mistake, not the handler's: it is reported by name, all of them at once, and the
job fails without another attempt.
"""

import contextlib
import inspect
import json
import typing
from collections.abc import Callable, Mapping
from typing import Any

from joblease.handlers import PermanentError
from pydantic import PydanticUserError, TypeAdapter, ValidationError


def fit(name: str, function: Callable[..., Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments for `function`, converted to its annotations. Raises `PermanentError`.

    The first argument (the `JobContext`) is left out. Parameters that the function does not name are passed only when
    it takes `**anything`.
    """
    hints = typing.get_type_hints(function)
    arguments: dict[str, Any] = {}
    problems: list[str] = []
    named: set[str] = set()
    rest = False
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        if parameter.kind is parameter.VAR_KEYWORD:
            rest = True
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            named.add(parameter.name)
            if parameter.name in parameters:
                try:
                    value = parameters[parameter.name]
                    arguments[parameter.name] = _convert(hints.get(parameter.name, Any), value)
                except ValidationError as error:
                    problems += [f"{_path(parameter.name, each['loc'])}: {each['msg']}" for each in error.errors()]
            elif parameter.default is parameter.empty:
                problems.append(f"{parameter.name}: required, but not given")
    if problems:
        raise PermanentError(f"the parameters do not fit handler {name!r}: " + "; ".join(problems))
    if rest:
        arguments |= {key: value for key, value in parameters.items() if key not in named}
    return arguments


def describe(name: str, function: Callable[..., Any]) -> dict[str, Any]:
    """Name, description and JSON schema of the parameters: a `HandlerDescription` as JSON."""
    hints = typing.get_type_hints(function)
    properties: dict[str, Any] = {}
    required: list[str] = []
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        properties[parameter.name] = _schema(hints.get(parameter.name, Any))
        if parameter.default is parameter.empty:
            required.append(parameter.name)
        else:
            with contextlib.suppress(TypeError, ValueError):  # a default that is no JSON is not shown
                json.dumps(parameter.default, allow_nan=False)
                properties[parameter.name]["default"] = parameter.default
    description = (inspect.getdoc(function) or "").split("\n\n")[0]
    parameters = {"type": "object", "properties": properties, "required": required}
    return {"name": name, "description": description, "parameters": parameters}


def _schema(annotation: Any) -> dict[str, Any]:
    try:
        return TypeAdapter(annotation).json_schema()
    except PydanticUserError:  # nothing that JSON could say
        return {}


def _convert(annotation: Any, value: Any) -> Any:
    try:
        adapter = TypeAdapter(annotation)
    except PydanticUserError:  # an annotation that pydantic has no opinion about
        return value
    return adapter.validate_python(value)


def _path(name: str, location: tuple[int | str, ...]) -> str:
    return ".".join([name, *map(str, location)])
