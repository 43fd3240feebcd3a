"""Whether a job can be run, as far as its queue's workers tell: they know its handler, and its parameters fit.

The worker checks again, and has the last word. What is refused here is what no worker of the queue would run: workers
of two releases may differ, and a queue that nobody serves yet may be served later by whoever knows the handler. A
worker's description is not trusted with this program's time or connections: it may name no other document, patterns are
left to the worker (whose regular expressions are others), and so is what takes too many steps.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator, SchemaError, ValidationError
from jsonschema.exceptions import best_match
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable

from joblease_dashboard.problems import Problem

if TYPE_CHECKING:
    from joblease.messages import HandlerDescription

    from joblease_dashboard.live.workers import Workers

STEPS = 10_000
"""Of one check: some 50 ms, 250 ms at worst."""
LEFT_OUT = ("pattern", "patternProperties", "format", "uniqueItems")
VALUES = ("enum", "const", "default", "examples")
BY_NAME = ("properties", "$defs", "definitions", "dependentSchemas")
"""Whose keys are names, and no keywords."""
NAMED = 20
"""Handlers that an answer names."""
LONGEST = 200
_extend: Any = extend
Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError]]


class TooMuch(Exception):
    """It takes more steps than are worth it."""


def check(workers: "Workers", spec: Mapping[str, Any]) -> None:
    """Raise `Problem` when workers serve the job's queue and none of them could run it."""
    name, queue = spec["handler"], spec.get("queue") or "default"
    living = [each.report for each in workers.all() if each.alive and each.report.queue == queue]
    if not living or not all(report.handlers for report in living):
        return  # nobody yet, or somebody who does not tell
    known = {handler.name for report in living for handler in report.handlers}
    handlers = [each for report in living for each in report.handlers if each.name == name]
    if not handlers:
        there = ", ".join(sorted(known)[:NAMED]) + (f" and {len(known) - NAMED} more" if len(known) > NAMED else "")
        detail = f"no worker of queue {queue!r} knows the handler {name!r}; they know {there}"
        raise Problem(422, "Unknown handler", detail, field="spec.handler")
    texts = {json.dumps(each.parameters, sort_keys=True) for each in handlers}
    misfits = [_misfit(text, spec.get("parameters") or {}) for text in texts]
    if all(misfits) and misfits[0]:
        field, said = misfits[0]
        raise Problem(422, "Does not fit", f"handler {name!r}: {field}: {said}", field=field)
    _check_group(name, spec, handlers)


def _check_group(name: str, spec: Mapping[str, Any], handlers: "Sequence[HandlerDescription]") -> None:
    """Raise `Problem` when the parameters make a group by no worker's policy."""
    if (spec.get("concurrency") or {}).get("group"):
        return
    said = ""
    for each in handlers:
        try:
            if each.policy:
                each.policy.group_for(name, spec.get("parameters") or {})
        except ValueError as error:
            said = str(error)
        else:
            return
    raise Problem(422, "Does not fit", said, field="spec.parameters")


def _misfit(text: str, parameters: Mapping[str, Any]) -> tuple[str, str] | None:
    """Which field does not fit the schema, and why; None when all do, or nobody can tell."""
    schema = _usable(text)
    if schema is None:
        return None
    try:
        error = best_match(_bounded(schema).iter_errors(parameters))
    except (TooMuch, RecursionError, Unresolvable):
        return None
    if error is None:
        return None
    path, said = list(error.absolute_path), error.message
    if error.validator == "required":
        missing = next(each for each in error.validator_value if each not in error.instance)
        path, said = [*path, missing], "required, but not given"
    shown = said if len(said) <= LONGEST else f"{said[:LONGEST]}…"
    return ".".join(["spec.parameters", *map(str, path)])[:LONGEST], shown


@lru_cache(maxsize=256)
def _usable(text: str) -> Any:
    """The schema without what is left to the worker; None when it is no schema."""
    schema = _without(json.loads(text))
    try:
        Draft202012Validator.check_schema(schema)
    except (SchemaError, RecursionError):
        return None
    return schema


def _without(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {name: _part(name, value) for name, value in schema.items() if name not in LEFT_OUT}


def _part(name: str, value: Any) -> Any:
    if name in VALUES:
        return value
    if name in BY_NAME and isinstance(value, dict):
        return {key: _without(each) for key, each in value.items()}
    return _without(value)


def _bounded(schema: Any) -> Any:
    """A validator that gives up after too many steps, and fetches nothing."""
    left = STEPS

    def counted(keyword: Keyword) -> Keyword:
        def step(*arguments: Any) -> Iterator[ValidationError]:
            nonlocal left
            left -= 1
            if left < 0:
                raise TooMuch
            yield from keyword(*arguments) or ()

        return step

    keywords = {name: counted(keyword) for name, keyword in Draft202012Validator.VALIDATORS.items()}
    return _extend(Draft202012Validator, keywords)(schema, registry=Registry())
