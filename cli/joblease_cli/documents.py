"""`submit -f`: JobRequests from files of YAML or JSON, all of them checked before one is sent.

YAML is read as kubectl reads it: times stay text, and a name that is there twice is refused.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from joblease.jobrequest import KIND, JobRequestSpec, check_parameters
from pydantic import ValidationError

from joblease_cli.failures import CommandError, Exit
from joblease_cli.job import API_VERSION

MOST_BYTES = 64 << 20
NAMED = 5
"""Mistakes that an error tells of."""
_METADATA = ("name", "generateName", "namespace", "labels", "annotations")


class Document(NamedTuple):
    """A JobRequest, and where it stands."""

    place: str
    body: dict[str, Any]


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - yaml's
        """A mapping in which each name is there once, and is text."""
        seen = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            name = self.construct_object(key, deep=True)
            if not isinstance(name, str):
                raise yaml.constructor.ConstructorError(None, None, f"the name {name!r} is no text", key.start_mark)
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{name!r} is there twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read(files: Iterable[str], namespace: str | None) -> list[Document]:
    """The JobRequests of all files; `namespace` is the one that was asked for, if any. Raises `CommandError`."""
    found, wrong = list[Document](), list[str]()
    for file in files:
        for place, content in _contents(file):
            try:
                found.append(Document(place, _checked(content, namespace)))
            except ValueError as error:
                wrong.append(f"{place}: {error}")
    names: dict[tuple[str, str], str] = {}
    for place, body in found:
        metadata = body["metadata"]
        name = metadata.get("name")
        first = names.setdefault((metadata.get("namespace", ""), name), place) if name else place
        if first != place:
            wrong.append(f"{place}: metadata.name: {name!r} is that of {first}, too")
    refuse(wrong)
    if not found:
        raise CommandError(f"there is no JobRequest in {', '.join(files)}", Exit.REFUSED)
    return found


def refuse(wrong: list[str]) -> None:
    """Raise `CommandError` when there is anything wrong."""
    if wrong:
        more = f"; and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        raise CommandError(f"nothing was submitted. {'; '.join(wrong[:NAMED])}{more}", Exit.REFUSED)


def _contents(file: str) -> Iterator[tuple[str, Any]]:
    """The documents, and the items of lists, with their places."""
    shown = "standard input" if file == "-" else file
    number = 0
    try:
        for number, content in enumerate(_parsed(_text(file)), 1):
            place = f"{shown}, document {number}"
            if isinstance(content, dict) and content.get("kind") in ("List", f"{KIND}List"):
                items = content.get("items")
                for item, each in enumerate(items if isinstance(items, list) else [], 1):
                    yield f"{place}, item {item}", each
            elif content is not None:
                yield place, content
    except (yaml.YAMLError, RecursionError) as error:
        said = " ".join(str(error).split()) or "it is nested too deep"
        refuse([f"{shown}, document {number + 1}: it cannot be read: {said}"])
    except (OSError, ValueError) as error:
        refuse([f"{shown}: it cannot be read: {error}"])


def _text(file: str) -> str:
    if file == "-":
        text = sys.stdin.read(MOST_BYTES + 1)
    else:
        with Path(file).open(encoding="utf-8") as opened:
            text = opened.read(MOST_BYTES + 1)
    if len(text) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES} characters")
    return text


def _parsed(text: str) -> Iterator[Any]:
    """JSON objects one after the other, or YAML."""
    if text.lstrip().startswith("{"):
        try:
            yield from _objects(text)
        except ValueError:  # YAML can begin so, too, and says better what is wrong
            pass
        else:
            return
    yield from yaml.load_all(text, _Loader)


def _objects(text: str) -> list[Any]:
    decoder, found, rest = json.JSONDecoder(object_pairs_hook=_once), [], text.strip()
    while rest:
        value, end = decoder.raw_decode(rest)
        found.append(value)
        rest = rest[end:].lstrip()
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found


def _checked(content: Any, namespace: str | None) -> dict[str, Any]:
    """The JobRequest. Raises `ValueError`, which names the field."""
    _known("", content, ("apiVersion", "kind", "metadata", "spec"))
    for field, only in (("apiVersion", API_VERSION), ("kind", KIND)):
        if content.get(field) != only:
            raise ValueError(f"{field}: {only} is expected, not {content.get(field)!r}")
    metadata = content.get("metadata") or {}
    _known("metadata", metadata, _METADATA)
    for field in ("name", "generateName", "namespace"):
        if not isinstance(metadata.get(field, ""), str):
            raise ValueError(f"metadata.{field}: text is expected, not {metadata[field]!r}")  # noqa: TRY004
    for field in ("labels", "annotations"):
        _texts(f"metadata.{field}", metadata.get(field) or {})
    if namespace and metadata.get("namespace", namespace) != namespace:
        raise ValueError(f"metadata.namespace: it is {metadata['namespace']!r}, and -n says {namespace!r}")
    _check_spec(content.get("spec"))
    return {**content, "metadata": dict(metadata)}


def _check_spec(spec: Any) -> None:
    if not isinstance(spec, dict):
        raise ValueError("spec: an object is expected")  # noqa: TRY004 - a mistake of the file
    try:
        text = json.dumps(spec, allow_nan=False)
    except ValueError as error:
        raise ValueError(f"spec: it is no JSON: {error}") from None
    try:
        found = JobRequestSpec.model_validate_json(text, strict=True, extra="forbid", by_alias=True, by_name=False)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(['spec', *map(str, first['loc'])])}: {first['msg']}") from None
    try:
        check_parameters(found.parameters)
    except ValueError as error:
        raise ValueError(f"spec.parameters: {error}") from None


def _texts(field: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise ValueError(f"{field}: an object is expected")  # noqa: TRY004 - a mistake of the file
    for key, each in value.items():
        if not isinstance(each, str):
            raise ValueError(f"{field}.{key}: text is expected, not {each!r}: put it into quotes")  # noqa: TRY004


def _known(field: str, value: Any, names: Iterable[str]) -> None:
    if not isinstance(value, Mapping):
        raise ValueError(f"{field or 'the document'}: an object is expected")  # noqa: TRY004 - a mistake of the file
    if unknown := [str(name) for name in value if name not in names]:
        where = f"{field}.{unknown[0]}" if field else unknown[0]
        raise ValueError(f"{where}: a new JobRequest has no such field; it has {', '.join(names)}")
