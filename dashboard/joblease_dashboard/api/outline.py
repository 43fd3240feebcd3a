"""The OpenAPI document as something to be read: operations and schemas in the order of the document."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from joblease_dashboard.api.openapi import DOCUMENT

METHODS = ("get", "post", "patch")


@dataclass(frozen=True, slots=True)
class Kind:
    """What a value is, in words; parts of it may be schemas of their own."""

    text: str
    schema: str = ""
    """Name of the schema that is meant, after the text."""


@dataclass(frozen=True, slots=True)
class Field:
    """A parameter, or a field of a schema."""

    name: str
    kind: Kind
    required: bool
    description: str


@dataclass(frozen=True, slots=True)
class Operation:
    """Something that can be asked for."""

    method: str
    path: str
    summary: str
    parameters: list[Field]
    body: str
    """Name of the schema of what is sent; empty when nothing is."""
    example: str
    """What is sent, as JSON."""
    answers: list[tuple[str, str, Kind]]
    """Status, meaning and content of each kind of success."""
    problems: list[str]
    """Statuses that say why not."""

    @property
    def anchor(self) -> str:
        """Its place on a page."""
        return f"{self.method}-{self.path.strip('/').translate(str.maketrans('/:{}', '----'))}"


def operations() -> list[Operation]:
    """All of them."""
    return [
        _operation(method, path, methods[method])
        for path, methods in DOCUMENT["paths"].items()
        for method in METHODS
        if method in methods
    ]


def schemas() -> dict[str, tuple[str, list[Field]]]:
    """Description and fields of each."""
    return {
        name: (schema.get("description", ""), list(_fields(schema)))
        for name, schema in DOCUMENT["components"]["schemas"].items()
    }


def _operation(method: str, path: str, told: Mapping[str, Any]) -> Operation:
    parameters = [
        Field(each["name"], _kind(each["schema"]), each.get("required", False), each.get("description", ""))
        for each in told.get("parameters", ())
    ]
    sent = told.get("requestBody", {}).get("content", {}).get("application/json", {})
    answers, problems = [], []
    for status, each in sorted(told["responses"].items()):
        if status < "300":
            (content,) = each["content"].values()
            answers.append((status, each["description"], _kind(content["schema"])))
        else:
            problems.append(status)
    example = json.dumps(sent["example"], ensure_ascii=False) if sent.get("example") else ""
    body = _name(sent["schema"]) if sent else ""
    return Operation(method, path, told["summary"], parameters, body, example, answers, problems)


def _fields(schema: Mapping[str, Any]) -> Iterator[Field]:
    for name, each in schema.get("properties", {}).items():
        told = each.get("description") or next((part.get("description", "") for part in each.get("anyOf", ())), "")
        yield Field(name, _kind(each), name in schema.get("required", ()), told)


def _kind(schema: Mapping[str, Any]) -> Kind:
    if "$ref" in schema:
        return Kind("", _name(schema))
    if others := [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]:
        return _kind(others[0])
    if "const" in schema or "enum" in schema:
        return Kind(" or ".join(json.dumps(each) for each in schema.get("enum", [schema.get("const")])))
    kind = schema.get("type", "any value")
    kind = next(each for each in kind if each != "null") if isinstance(kind, list) else kind
    if kind == "array":
        inner = _kind(schema["items"])
        return Kind(f"list of {inner.text}", inner.schema)
    if "properties" in schema:
        return Kind(f"object with {', '.join(schema['properties'])}")
    bounds = [f"{word} {schema[key]}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in schema]
    form = [f"({schema['format']})"] if "format" in schema else []
    return Kind(" ".join([kind, *form, *bounds]))


def _name(schema: Mapping[str, Any]) -> str:
    return str(schema["$ref"]).rpartition("/")[2]
