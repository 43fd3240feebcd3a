"""A job as a form: the fields that a handler's parameters ask for, the spec that a filled form means, and back.

Field names say how a text becomes a value: `parameter.NAME` is text, `json.NAME` and `parameters` are JSON. `key` names
the form itself: sent twice, with the same in it, it is meant once.
"""

import hashlib
import json
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from joblease.jobrequest import JobRequestSpec, check_parameters
from joblease.limits import DNS_LABEL
from joblease.messages import JobEvent, Status
from pydantic import ValidationError

from joblease_dashboard.problems import Problem

if TYPE_CHECKING:
    from joblease.messages import HandlerDescription
    from pydantic_core import ErrorDetails

SHOWN_INPUT = 80
PLAIN = ("queue", "description", "inputFilePath", "priority", "activeDeadlineSeconds", "startAfter")
"""Fields of the form that are fields of the spec."""
NESTED = {"group": ("concurrency", "group"), "limit": ("concurrency", "limit"), "maxAttempts": ("retry", "maxAttempts")}
"""Fields of the form that are inside a part of the spec."""
OTHERS = ("handler", "parameters", "namespace", "name", "key")
LABEL = DNS_LABEL.pattern
LONGEST_NAME = 253


@dataclass(frozen=True, slots=True)
class Field:
    """A handler's parameter as a field of the form."""

    parameter: str
    name: str
    """The form field's name."""
    kind: str
    """`choice`, `integer`, `number`, `text` or `json`."""
    choices: tuple[str, ...]
    """For `choice`: the values as JSON."""
    default: str
    """As it would be typed; empty when there is none."""
    required: bool
    least: str = ""
    most: str = ""


def fields_of(description: "HandlerDescription | None") -> list[Field]:
    """The fields for a handler's parameters, in the order of its signature."""
    schema = description.parameters if description else {}
    required = schema.get("required", ())
    return [_field(name, each, name in required) for name, each in schema.get("properties", {}).items()]


def _field(name: str, schema: Mapping[str, Any], required: bool) -> Field:  # noqa: FBT001 - as the schema has it
    kind, choices = str(schema.get("type", "")), tuple(json.dumps(each) for each in schema.get("enum", ()))
    if kind == "boolean":
        choices = ("true", "false")
    shown = "choice" if choices else {"string": "text"}.get(kind, kind if kind in ("integer", "number") else "json")
    default = schema.get("default")
    text = "" if default is None else default if shown == "text" else json.dumps(default)
    bounds = [str(schema.get(bound, "")) for bound in ("minimum", "maximum")]
    return Field(
        name, f"{'parameter' if shown == 'text' else 'json'}.{name}", shown, choices, str(text), required, *bounds
    )


def new_key() -> str:
    """The key of a form that is about to be shown."""
    return secrets.token_urlsafe(12)


def seed_of(form: Mapping[str, str], *content: Any) -> str:
    """What a form and its content come to, always the same for the same; nothing when it has no key."""
    whole = json.dumps([form.get("key"), *content], sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()[:32] if form.get("key") else ""


def check_names(namespace: str, name: str) -> None:
    """Raise `Problem` unless Kubernetes could have such a namespace and, if there is one, such a name."""
    if not re.fullmatch(LABEL, namespace):
        raise Problem(
            400, "Bad namespace", f"{_short(namespace)} is none: small letters, a to z, digits and -, 63 at most"
        )
    if name and not (len(name) <= LONGEST_NAME and re.fullmatch(rf"{LABEL}(\.{LABEL})*", name)):
        expected = f"small letters, a to z, digits, - and ., {LONGEST_NAME} at most"
        raise Problem(400, "Bad name", f"a job cannot be called {_short(name)}: {expected}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_INPUT else f"{text[:SHOWN_INPUT]}…"


def spec_of(form: Mapping[str, str]) -> dict[str, Any]:
    """The spec that a form describes. Raises `Problem`."""
    for name in form:
        if name not in (*PLAIN, *NESTED, *OTHERS) and not name.startswith(("parameter.", "json.")):
            hint = f"a parameter is given as parameter.{name} (text) or json.{name} (any other value)"
            raise Problem(400, "Bad field", f"there is no field {_short(name)}; {hint}", field=name)
    parameters: Any = _json("parameters", form.get("parameters") or "{}")
    if not isinstance(parameters, dict):
        raise Problem(400, "Bad parameters", 'the parameters must be a JSON object, as {"steps": 3}')
    for name, text in form.items():
        kind, _, parameter = name.partition(".")
        if kind == "parameter" and text != "":
            parameters[parameter] = text
        elif kind == "json" and text != "":
            parameters[parameter] = _json(parameter, text)
    fields: dict[str, Any] = {"handler": form.get("handler", "").strip(), "parameters": parameters}
    fields |= {name: form[name].strip() for name in PLAIN if form.get(name, "").strip()}
    for name, (part, inner) in NESTED.items():
        if form.get(name, "").strip():
            fields.setdefault(part, {})[inner] = form[name].strip()
    try:
        spec = JobRequestSpec.model_validate(fields)
        check_parameters(spec.parameters)
    except ValidationError as error:
        raise Problem(400, "Bad job", "; ".join(_complaint(each) for each in error.errors())) from None
    except ValueError as error:
        raise Problem(400, "Bad job", str(error)) from None
    return spec.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _complaint(error: "ErrorDetails") -> str:
    """What is wrong with a field: what is expected, and what was given."""
    return f"{'.'.join(map(str, error['loc']))}: {expected(error)}, not {_short(error['input'])}"


def expected(error: "ErrorDetails") -> str:
    """What a field is to be."""
    if error["type"].startswith(("datetime", "timezone")):
        return "a time with its zone is expected, as 2026-11-24T12:00:00Z"
    return error["msg"]


def repeatable(name: str, events: Iterable[JobEvent]) -> dict[str, Any]:
    """The spec that another job like this one has. Raises `Problem` when the history does not have all of it."""
    facts = submitted(events)
    if "handler" not in facts:
        raise Problem(409, "Not possible", f"the trail of job {name} does not say how it was submitted")
    if "parameters" not in facts:
        why = "its parameters were too large for the trail, and without them it would be another job"
        raise Problem(409, "Not possible", f"job {name} cannot be submitted again from here: {why}")
    return facts


def submitted(events: Iterable[JobEvent]) -> dict[str, Any]:
    """What a job's history says about its spec; empty when it does not."""
    return next((event.data for event in events if event.status == Status.SUBMITTED and event.data), {})


def form_of(spec: Mapping[str, Any], fields: list[Field]) -> dict[str, str]:
    """The form as it would have been filled in for this spec, for another job like it."""
    form = {name: str(spec[name]) for name in PLAIN if spec.get(name) is not None and name != "startAfter"}
    for name, (part, inner) in NESTED.items():
        if (spec.get(part) or {}).get(inner) is not None:
            form[name] = str(spec[part][inner])
    known, rest = {each.parameter: each for each in fields}, {}
    for name, value in (spec.get("parameters") or {}).items():
        field = known.get(name)
        if field is None or (field.kind == "text") != isinstance(value, str):
            rest[name] = value
        else:
            form[field.name] = value if field.kind == "text" else json.dumps(value, ensure_ascii=False)
    return {**form, **({"parameters": json.dumps(rest, indent=2, ensure_ascii=False)} if rest else {})}


def _json(name: str, text: str) -> Any:
    try:
        value = json.loads(text)
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise Problem(400, "Bad parameters", f"{name}: not JSON: {error}") from None
    return value
