"""Whether a job can be run, as its queue's workers tell; and what their descriptions may cost."""

import time
from typing import Any

import pytest
from joblease.messages import HandlerDescription, WorkerReport, now
from joblease.policy import HandlerPolicy
from joblease_dashboard.actions.fitting import check
from joblease_dashboard.live.workers import Workers
from joblease_dashboard.problems import Problem

RESIZE = {
    "type": "object",
    "properties": {
        "paths": {"type": "array", "items": {"type": "string", "pattern": "^(a+)+$"}},
        "size": {"$ref": "#/$defs/Size"},
        "pattern": {"enum": [{"pattern": "x"}]},
    },
    "required": ["paths"],
    "$defs": {"Size": {"type": "object", "properties": {"width": {"type": "integer", "minimum": 1}}}},
}
NESTED: dict[str, Any] = {"anyOf": [{"type": "array", "items": {"$ref": "#"}}, {"items": {"$ref": "#"}, "minItems": 9}]}


def served(**handlers: Any) -> Workers:
    """Workers of the queue `images`, one for each handler."""
    workers = Workers()
    for name, schema in handlers.items():
        known = [HandlerDescription(name=name.partition("_")[0], parameters=schema)]
        workers.add(
            WorkerReport(
                worker=name, queue="images", concurrency=1, lease_seconds=60, period_seconds=10, started_at=now(),
                timestamp=now(), handlers=known,
            )
        )  # fmt: skip
    return workers


def test_parameters_make_the_group_of_the_handlers_policy() -> None:
    workers = served(resize={"type": "object"})
    report = workers.all()[0].report
    policy = HandlerPolicy(group="images-{customer}")
    one = report.handlers[0].model_copy(update={"policy": policy})
    workers.add(report.model_copy(update={"handlers": [one]}))
    said = (
        "spec.parameters: handler 'resize' has its jobs in group 'images-{customer}': the parameter customer is missing"
    )
    assert refusal(workers) == said
    assert refusal(workers, customer="acme") == ""
    check(workers, {"handler": "resize", "queue": "images", "concurrency": {"group": "own"}})
    workers.add(report.model_copy(update={"worker": "older", "handlers": report.handlers}))
    assert refusal(workers) == ""


def refusal(workers: Workers, handler: str = "resize", queue: str = "images", **parameters: Any) -> str:
    try:
        check(workers, {"handler": handler, "queue": queue, "parameters": parameters})
    except Problem as problem:
        return f"{problem.content['field']}: {problem}"
    return ""


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"paths": []}, ""),
        ({"paths": ["a" * 60 + "!"]}, ""),  # a pattern is the worker's to check, and here it would take for ever
        ({"paths": ["a"], "size": {"width": 3}, "unknown": 1, "pattern": {"pattern": "x"}}, ""),
        ({}, "spec.parameters.paths"),
        ({"paths": "a"}, "spec.parameters.paths"),
        ({"paths": ["a", 1]}, "spec.parameters.paths.1"),
        ({"paths": [], "size": {"width": 0}}, "spec.parameters.size.width"),
        ({"paths": [], "pattern": {"pattern": "y"}}, "spec.parameters.pattern"),
        ({"paths": {"x" * 60_000: 1}}, "spec.parameters.paths"),
    ],
)
def test_parameters_fit_or_the_field_is_named(parameters: dict[str, Any], field: str) -> None:
    said = refusal(served(resize=RESIZE), **parameters)
    assert said.partition(":")[0] == field
    assert len(said) < 500


def test_a_handler_is_unknown_only_where_workers_would_know() -> None:
    workers = served(resize=RESIZE, import_=RESIZE)
    assert refusal(workers, "nope").startswith("spec.handler: no worker of queue 'images' knows the handler 'nope'")
    assert "import, resize" in refusal(workers, "nope")
    assert refusal(workers, "nope", "elsewhere") == ""
    assert refusal(served(), "nope") == ""
    silent = served(resize=RESIZE)
    silent.add(silent.all()[0].report.model_copy(update={"worker": "old", "handlers": []}))
    assert refusal(silent, "nope") == ""


def test_what_one_release_of_a_handler_takes_is_taken() -> None:
    assert refusal(served(resize_1=RESIZE, resize_2={"type": "object", "required": ["urls"]}), urls=[]) == ""
    assert refusal(served(resize_1=RESIZE, resize_2={"type": "object", "required": ["urls"]}), x=1) != ""


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "no such type"},
        {"$ref": "http://127.0.0.1:9/schema.json"},
        {"$ref": "#/nowhere"},
        {"$ref": "#"},
        {"properties": {"x": NESTED}},
        {"properties": {"x": {"uniqueItems": True}}},
        {"properties": {"x": {"items": {"anyOf": [{"type": "null"}] * 500}}}},
        {"minimum": "a"},
    ],
)
def test_no_description_of_a_worker_costs_more_than_it_should(schema: dict[str, Any]) -> None:
    began = time.process_time()
    deep: Any = 1
    for _ in range(60):
        deep = [deep]
    values: list[Any] = [deep, [{}] * 20_000, list(range(10_000))]
    for value in values:
        refusal(served(resize=schema), x=value)
    assert time.process_time() - began < 3
