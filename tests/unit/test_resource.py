"""The models and the CRD are one resource written down twice; these tests fail when one of them is changed alone."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from joblease.jobrequest import (
    GROUP,
    KIND,
    MAX_MESSAGE,
    PLURAL,
    VERSION,
    Condition,
    JobRequestSpec,
    JobRequestStatus,
    check_parameters,
    deeper_than,
    parameters_size,
)
from joblease.limits import MAX_DEPTH, MAX_PARAMETERS_BYTES, MAX_RESULT_BYTES
from joblease.states import REASONS
from pydantic import BaseModel, ValidationError

MANIFESTS = Path(__file__).parents[2] / "manifests"
CRD = next(yaml.safe_load_all((MANIFESTS / "crd.yaml").read_text()))
(SERVED,) = CRD["spec"]["versions"]
ROOT = SERVED["schema"]["openAPIV3Schema"]
SPEC, STATUS = ROOT["properties"]["spec"], ROOT["properties"]["status"]
CONDITION = STATUS["properties"]["conditions"]["items"]
SAMPLES = [
    pytest.param(document, id=f"{path.stem}-{document['metadata']['name']}")
    for path in sorted((MANIFESTS / "samples").glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
]
BOUNDS = (
    "type",
    "format",
    "pattern",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "maxProperties",
    "maxItems",
    "enum",
)


def bounds(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """What a schema allows, in a form that is the same for pydantic's and the CRD's."""
    if "anyOf" in schema:  # pydantic's way to say optional
        (schema,) = (choice for choice in schema["anyOf"] if choice != {"type": "null"})
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rsplit("/", 1)[1]]
    found = {key: schema[key] for key in BOUNDS if key in schema}
    for name, part in schema.get("properties", {}).items():
        found[name] = bounds(part, definitions)
    return found


def crd_defaults(schema: dict[str, Any]) -> dict[str, Any]:
    """What the API server fills into an empty object."""
    found = {}
    for name, part in schema["properties"].items():
        if "default" in part:
            found[name] = {**part["default"], **crd_defaults(part)} if "properties" in part else part["default"]
    return found


def described(schema: dict[str, Any], path: str) -> list[str]:
    missing = [] if schema.get("description") or path.endswith("items") else [path]
    for name, part in schema.get("properties", {}).items():
        missing += described(part, f"{path}.{name}")
    return missing + (described(schema["items"], f"{path}.items") if "items" in schema else [])


def fields(model: type[BaseModel]) -> set[str]:
    return {str(field.alias) for field in model.model_fields.values()}


def test_the_names_agree() -> None:
    names = CRD["spec"]["names"]
    assert (CRD["spec"]["group"], SERVED["name"], names["plural"], names["kind"]) == (GROUP, VERSION, PLURAL, KIND)
    assert CRD["metadata"]["name"] == f"{PLURAL}.{GROUP}"


def test_the_spec_has_the_same_fields_and_bounds() -> None:
    schema = JobRequestSpec.model_json_schema(by_alias=True)
    crd = bounds(SPEC, {})
    # pydantic knows by itself which times exist; the API server has to be told.
    assert crd["startAfter"].pop("pattern")
    assert crd["startAfter"].pop("maxLength")
    assert bounds(schema, schema["$defs"]) == crd
    assert schema["required"] == SPEC["required"]


def test_the_defaults_agree() -> None:
    spec = JobRequestSpec(handler="demo").model_dump(by_alias=True, exclude_none=True)
    assert spec == {"handler": "demo", **crd_defaults(SPEC)}


def test_what_the_operators_settings_supply_has_no_default() -> None:
    assert not {"concurrency", "ttlSecondsAfterFinished"} & set(crd_defaults(SPEC))


def test_the_status_has_the_same_fields() -> None:
    assert fields(JobRequestStatus) == set(STATUS["properties"])
    assert fields(Condition) == set(CONDITION["properties"])
    for schema in (STATUS, CONDITION):
        assert schema["properties"]["message"]["maxLength"] == MAX_MESSAGE


def test_the_bounds_that_only_the_operator_can_check_are_documented() -> None:
    assert str(MAX_PARAMETERS_BYTES) in SPEC["properties"]["parameters"]["description"]
    assert f"{MAX_DEPTH} levels" in SPEC["properties"]["parameters"]["description"]
    assert str(MAX_RESULT_BYTES) in STATUS["properties"]["result"]["description"]


def test_every_reason_is_documented_and_no_other() -> None:
    documented = STATUS["properties"]["conditions"]["description"].split("reason is one of ")[1]
    assert re.findall(r"\w+", documented) == [str(reason) for reason in REASONS]


def test_kubectl_explain_has_something_to_say_about_every_field() -> None:
    assert described(SPEC, "spec") + described(STATUS, "status") == []


def test_each_field_that_must_not_change_has_its_rule() -> None:
    rules = " ".join(rule["rule"] for rule in SPEC["x-kubernetes-validations"])
    mutable = {"suspend", "cancel", "ttlSecondsAfterFinished"}
    elsewhere = {"priority", "parameters"}  # at the root; in the admission policy
    for field in set(SPEC["properties"]) - mutable - elsewhere:
        assert f"self.{field} == oldSelf.{field}" in rules, field


@pytest.mark.parametrize("sample", SAMPLES)
def test_samples_are_understood_in_full(sample: dict[str, Any]) -> None:
    spec = JobRequestSpec.model_validate(sample["spec"])
    understood = spec.model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert understood == sample["spec"]
    assert not spec.suspend, "kubectl wait would wait for ever"


@pytest.mark.parametrize("name", ["a", "0", "resize-images", "a.b_c-d", "x" * 63])
def test_names(name: str) -> None:
    assert JobRequestSpec(handler=name, queue=name).handler == name


@pytest.mark.parametrize("name", ["", "A", "-a", "a-", "a.", "a/b", "a b", "demo\n", "ä", "x" * 64])
def test_names_that_could_not_be_names_of_queues_and_blobs(name: str) -> None:
    for spec in (
        {"handler": name},
        {"handler": "demo", "queue": name},
        {"handler": "a", "concurrency": {"group": name}},
    ):
        with pytest.raises(ValidationError):
            JobRequestSpec.model_validate(spec)


def test_a_time_without_an_offset_is_refused() -> None:
    with pytest.raises(ValidationError, match="timezone"):
        JobRequestSpec.model_validate({"handler": "demo", "startAfter": "2026-01-01T06:00:00"})


def test_the_longest_pause_is_not_shorter_than_the_first() -> None:
    with pytest.raises(ValidationError, match="maxSeconds must not be less than initialSeconds"):
        JobRequestSpec.model_validate({"handler": "demo", "retry": {"backoff": {"initialSeconds": 601}}})


def test_fields_of_a_newer_version_are_ignored() -> None:
    JobRequestSpec.model_validate({"handler": "demo", "notYetInvented": True})


def test_the_models_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        JobRequestSpec(handler="demo").priority = 1  # type: ignore[misc]  # which is the point


def test_parameters_are_counted_as_compact_utf8() -> None:
    assert parameters_size({}) == 2
    assert parameters_size({"a": [1, "é"], "b": None}) == len('{"a":[1,"é"],"b":null}'.encode())


def test_parameters_fit_up_to_the_last_byte() -> None:
    largest = {"a": "x" * (MAX_PARAMETERS_BYTES - len('{"a":""}'))}
    check_parameters(largest)
    with pytest.raises(ValueError, match=r"take 65537 bytes as JSON; at most 65536 fit\. .* inputFilePath"):
        check_parameters({"a": largest["a"] + "x"})


@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: {"a": inner}, lambda inner: [1, {"b": [inner]}]])
def test_levels_are_counted_without_going_down_them(wrap: Callable[[Any], Any]) -> None:
    value: Any = 1
    levels = 0
    while levels < 20_000:
        value = wrap(value)
        levels += 3 if isinstance(value, list) and len(value) == 2 else 1
        if levels in (1, 2, 3, 63, 64, 66):
            assert not deeper_than(levels, value)
            assert deeper_than(levels - 1, value)
    assert deeper_than(MAX_DEPTH, value)


def test_parameters_have_a_greatest_depth() -> None:
    deepest: dict[str, Any] = {"a": 1}
    for _ in range(MAX_DEPTH - 1):
        deepest = {"a": deepest}
    check_parameters(deepest)
    with pytest.raises(ValueError, match=r"more than 64 levels deep\. .* inputFilePath"):
        check_parameters({"a": deepest})
