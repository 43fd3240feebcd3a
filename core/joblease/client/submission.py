"""A job to be submitted: from a handler's name or the handler itself, checked before anything is sent."""

import inspect
import json
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Concatenate, ParamSpec, TypedDict, Unpack, overload

from joblease import values
from joblease.handlers import JobContext, PermanentError, name_of
from joblease.limits import KEY_PATTERN, MAX_KEY, MAX_PARAMETERS_BYTES, is_int64

P = ParamSpec("P")


class Options(TypedDict, total=False):
    """What a submission may say besides handler and parameters. Durations are seconds or a `timedelta`."""

    key: str | None
    """Makes the submission happen once for (namespace, handler, key)."""
    key_ttl: float | timedelta | None
    """How long the key counts; as long as the trail, unless it is given."""
    group: str | None
    """Concurrency group."""
    limit: int | None
    """How many jobs of the group may run at once."""
    priority: int | None
    """0 to 9; the highest goes first."""
    queue: str | None
    labels: Mapping[str, str] | None
    annotations: Mapping[str, str] | None
    namespace: str | None
    name: str | None
    """Of the `JobRequest`; made up when it is not given."""
    description: str | None
    input_file_path: str | None
    max_attempts: int | None
    deadline: float | timedelta | None
    """How long the job may take, from its first start on."""
    start_after: datetime | None
    """With a time zone."""
    ttl: float | timedelta | None
    """When the `JobRequest` is deleted after the job's end; -1: never. The trail stays."""
    suspend: bool | None
    unchecked: bool | None
    """Taken also when no worker knows the handler yet, or knows it with other parameters."""


_SPEC: Mapping[str, tuple[str, ...]] = {
    "key": ("key",),
    "key_ttl": ("keyTTLSeconds",),
    "group": ("concurrency", "group"),
    "limit": ("concurrency", "limit"),
    "priority": ("priority",),
    "queue": ("queue",),
    "description": ("description",),
    "input_file_path": ("inputFilePath",),
    "max_attempts": ("retry", "maxAttempts"),
    "deadline": ("activeDeadlineSeconds",),
    "start_after": ("startAfter",),
    "ttl": ("ttlSecondsAfterFinished",),
    "suspend": ("suspend",),
}
_METADATA = ("namespace", "name", "labels", "annotations")
UNCHECKED = "unchecked"
_KNOWN = (*_SPEC, *_METADATA, UNCHECKED)
_DURATIONS = ("key_ttl", "deadline", "ttl")


def new_id() -> str:
    """Of a submission."""
    return secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class Submission:
    """A job to be submitted."""

    handler: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    said: Mapping[str, Any] = field(default_factory=dict)
    """The options that are given."""
    id: str = field(default_factory=new_id)
    """Tells the same submission, sent again, from another one."""

    def options(self, **options: Unpack[Options]) -> "Submission":
        """Another one, with these options, too. Raises `TypeError`, `ValueError`."""
        return replace(self, said={**self.said, **_checked(options)}, id=new_id())

    def body(self, defaults: Mapping[str, Any]) -> dict[str, Any]:
        """As the API takes it; `defaults` are options that count where this one says nothing."""
        spec: dict[str, Any] = {"handler": self.handler, "parameters": self.parameters}
        metadata: dict[str, Any] = {}
        for name, value in {**defaults, **self.said}.items():
            if name in _METADATA:
                metadata[name] = value
            if name not in _SPEC:
                continue
            *outer, last = _SPEC[name]
            inner = spec.setdefault(outer[0], {}) if outer else spec
            inner[last] = value
        body: dict[str, Any] = {"metadata": metadata, "spec": spec}
        return body if "key" in spec else {**body, "submissionId": self.id}

    def unchecked(self, defaults: Mapping[str, Any]) -> bool:
        """Whether it is to be taken as it is."""
        return bool({**defaults, **self.said}.get(UNCHECKED))


@overload
def submission(
    handler: str, parameters: Mapping[str, Any] | None = None, /, **options: Unpack[Options]
) -> Submission: ...
@overload
def submission(
    handler: Callable[Concatenate[JobContext, P], Any], /, *args: P.args, **parameters: P.kwargs
) -> Submission: ...
def submission(handler: Any, /, *args: Any, **more: Any) -> Submission:
    """A job to be submitted: a handler's name, its parameters, and options; or a handler and its arguments.

    Options of the second are given with `.options(key=…)`. Raises `TypeError` for arguments that the handler does not
    take, `ValueError` for values that do not fit or cannot be sent.
    """
    if isinstance(handler, str):
        return _named(handler, *args, **more)
    name = name_of(handler)
    return Submission(name, _fitted(name, handler, args, more))


def _named(handler: str, parameters: Mapping[str, Any] | None = None, /, **options: Unpack[Options]) -> Submission:
    if parameters is not None and not isinstance(parameters, Mapping):
        raise TypeError(f"the parameters of {handler} are a dict, not {type(parameters).__qualname__}")
    return Submission(handler, _as_json(handler, parameters or {}), _checked(options))


def _fitted(name: str, function: Callable[..., Any], args: tuple[Any, ...], named: Mapping[str, Any]) -> dict[str, Any]:
    from joblease.parameters import fit  # pydantic takes time to be imported

    try:
        bound = inspect.signature(function).bind(None, *args, **named)
    except TypeError as error:
        hint = ". Options are given with submission(…).options(…)" if named.keys() & {*_KNOWN} else ""
        raise TypeError(f"handler {name!r}: {error}{hint}") from None
    first, *_ = bound.arguments
    parameters: dict[str, Any] = {}
    for each, value in bound.arguments.items():
        kind = bound.signature.parameters[each].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            parameters |= value
        elif kind is inspect.Parameter.VAR_POSITIONAL:
            raise TypeError(f"handler {name!r}: parameters have names, *{each} has none")
        elif each != first:
            parameters[each] = value
    plain = _as_json(name, parameters)
    try:
        fit(name, function, plain)
    except PermanentError as error:
        raise ValueError(str(error)) from None
    return plain


def _as_json(handler: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters as plain JSON, as the handler will find them."""
    what = f"a parameter of handler {handler!r}"
    text = encoded(dict(parameters), what, default=lambda value: values.json_value(value, what))
    size = len(text)
    if size > MAX_PARAMETERS_BYTES:
        raise ValueError(
            f"the parameters of handler {handler!r} take {size} bytes as JSON; at most {MAX_PARAMETERS_BYTES} fit. "
            "Put large input into a file and pass its address as input_file_path"
        )
    plain: dict[str, Any] = json.loads(text, parse_int=lambda digits: _whole(digits, what))
    return plain


def _whole(digits: str, what: str) -> int:
    number = int(digits)
    if not is_int64(number):
        raise ValueError(f"{what} is an integer of more than 64 bits; pass it as text")
    return number


def encoded(value: Any, what: str, default: Callable[[Any], Any] | None = None) -> bytes:
    """As JSON. Raises `TypeError`, `ValueError` that say what cannot be sent."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=default)
        return text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} has half a character (a lone surrogate), which cannot be sent") from None
    except RecursionError:
        raise ValueError(f"{what} is nested too deep to be sent") from None
    except (TypeError, ValueError) as error:
        text, kind = str(error), TypeError if isinstance(error, TypeError) else ValueError
        raise kind(text if text.startswith(what) else f"{what} cannot be sent: {text}") from None


def _checked(options: Mapping[str, Any]) -> dict[str, Any]:
    said = {name: value for name, value in options.items() if value is not None}
    if unknown := [name for name in said if name not in _KNOWN]:
        raise TypeError(f"there is no option {unknown[0]!r}; known are {', '.join(_KNOWN)}")
    key = said.get("key")
    if key is not None and not (isinstance(key, str) and len(key) <= MAX_KEY and re.fullmatch(KEY_PATTERN, key)):
        raise ValueError(f"key: 1 to {MAX_KEY} printable ASCII characters are expected, not {str(key)[:60]!r}")
    for name in _DURATIONS:
        if name in said:
            said[name] = _seconds(name, said[name])
    if (when := said.get("start_after")) is not None:
        if not isinstance(when, datetime) or when.tzinfo is None:
            raise ValueError(f"start_after: a datetime with a time zone is expected, not {when!r}")
        said["start_after"] = when.isoformat()
    return said


def _seconds(name: str, value: object) -> int:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        raise ValueError(f"{name}: a timedelta or whole seconds are expected, not {value!r}")
    return int(value)
