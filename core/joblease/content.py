"""What makes two jobs the same work, and in which fields they are not: for idempotency keys."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from joblease.messages import rfc3339
from joblease.policy import DEFAULT_MAX_ATTEMPTS

if TYPE_CHECKING:
    from joblease.jobrequest import JobRequestSpec

FREE = {
    "handler", "description", "priority", "ttl_seconds_after_finished", "suspend", "cancel", "key", "key_ttl_seconds",
}  # fmt: skip
"""Fields that do not matter for whether two jobs are the same work: with them, a job may be submitted differently."""
MAX_SHOWN = 200
"""Characters of a value that is kept as it is; of a longer one its digest is."""
MAX_CONTENT = 24_000
"""Characters of the names and values of all parameters; of more, one digest is kept."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A field in which a job is not the one that a key stands for; its values as JSON, empty when it is not there."""

    field: str
    first: str
    now: str

    def __str__(self) -> str:
        return f"{self.field}: first {self.first or 'nothing'}, now {self.now or 'nothing'}"


def content_of(spec: "JobRequestSpec") -> dict[str, str]:
    """What two jobs must have in common to be the same work: fields and parameters, as short JSON or a digest."""
    given = spec.model_dump(mode="json", by_alias=True, exclude=FREE, exclude_none=True)
    given["retry"].setdefault("maxAttempts", DEFAULT_MAX_ATTEMPTS)  # as it was written when the CRD had this default
    if spec.start_after:
        given["startAfter"] = rfc3339(spec.start_after)
    parameters = given.pop("parameters", {})
    content = {name: _short(value) for name, value in given.items()}
    each = {f"parameters.{name}": _short(value) for name, value in parameters.items()}
    fits = sum(len(name) + len(value) for name, value in each.items()) <= MAX_CONTENT
    return content | (each if fits else {"parameters": _short(parameters)})


def _short(value: Any) -> str:
    text = json.dumps(_plain(value), sort_keys=True, separators=(",", ":"))
    if len(text) <= MAX_SHOWN:
        return text
    return f"{len(text)} characters, SHA-256 {hashlib.sha256(text.encode()).hexdigest()}"


def _plain(value: Any) -> Any:
    """The value with 1 for 1.0: the API server makes no difference between them, and gives either back as 1."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def differences(first: Mapping[str, str], now: Mapping[str, str]) -> list[Difference]:
    """In what the content of a job is not that of the first one, by field."""
    found = (Difference(each, first.get(each, ""), now.get(each, "")) for each in sorted({*first, *now}))
    return [each for each in found if each.first != each.now]
