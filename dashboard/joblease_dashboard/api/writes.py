"""The part of the OpenAPI document that is about changes; schemas come from the models."""

from typing import Any

from joblease.limits import KEY_PATTERN, MAX_KEY
from pydantic.json_schema import models_json_schema

from joblease_dashboard.actions.bulk import PATCH
from joblease_dashboard.actions.kinds import ACTIONS
from joblease_dashboard.api.models import (
    KEY_HEADER,
    MAX_BATCH,
    Again,
    Batch,
    Changed,
    Changes,
    Outcome,
    ProblemDetails,
    Results,
    Selected,
    SelectedChanges,
    Submission,
)
from joblease_dashboard.api.operations import JOB_ID, REFERENCE, answers, body, parameter, reference
from joblease_dashboard.api.schemas import TEXT

_SENT = (Submission, Batch, Again, Changes, Selected, SelectedChanges)
_GIVEN = (Results, Changed, Outcome, ProblemDetails)
_REFUSALS = (400, 404, 408, 409, 413, 415, 422, 503)
_JOB = {
    "metadata": {"namespace": "default"},
    "spec": {"handler": "demo", "parameters": {"steps": 3}},
    "submissionId": "order-17-invoice",
}


_UNCHECKED = parameter(
    "unchecked",
    "Whether to take a job whose handler no worker of its queue knows, or whose parameters do not fit it.",
    {"type": "boolean", "default": False},
)
_KEY = {
    "name": KEY_HEADER,
    "in": "header",
    "description": "As `spec.key`: the first submission with it makes the job, every later one is answered with that.",
    "schema": {**TEXT, "minLength": 1, "maxLength": MAX_KEY, "pattern": KEY_PATTERN},
}


_NAMED = [
    parameter("namespace", "With `name`: a job whose trail has not begun is found, too, by its resource."),
    parameter("name", "See `namespace`."),
]
_CHANGES = {"priority": 5, "ttlSecondsAfterFinished": 3600}
_VERBS = {"cancel": "Cancel", "suspend": "Hold back", "resume": "Let go on", "retry": "Submit again", PATCH: "Change"}


def _selected(name: str) -> dict[str, Any]:
    changes = {"set": _CHANGES} if name == PATCH else {}
    example = {"selector": {"namespace": "default", "labels": "team=a"}, "dryRun": True, **changes}
    return {
        "summary": f"{_VERBS[name]} all jobs that a selector selects, or say how many there are",
        "requestBody": body("SelectedChanges" if changes else "Selected", example),
        "responses": answers(reference("Outcome"), *_REFUSALS),
    }


def _action(name: str) -> dict[str, Any]:
    makes = ACTIONS[name].sets is None
    return {
        "summary": f"{_VERBS[name]}: {ACTIONS[name].consequence}",
        "parameters": [JOB_ID, *_NAMED],
        **({"requestBody": {**body("Again", {}), "required": False}} if makes else {}),
        "responses": answers(reference("MadeJob" if makes else "Changed"), *_REFUSALS),
    }


def _schemas() -> dict[str, Any]:
    """By name. What is sent may have no field that is not described; what comes back may get more."""
    modes = [(model, "validation") for model in _SENT] + [(model, "serialization") for model in _GIVEN]
    _, found = models_json_schema(modes, ref_template=REFERENCE)  # type: ignore[arg-type]
    schemas: dict[str, Any] = found["$defs"]
    for name, schema in schemas.items():
        for each in schema["properties"].values():
            each.pop("title", None)
        if name != ProblemDetails.__name__:
            schema["additionalProperties"] = False
    return schemas


SCHEMAS = _schemas()
WRITES: dict[str, dict[str, Any]] = {
    "/api/requests": {
        "post": {
            "summary": "Submit a job: a JobRequest is made in the caller's name",
            "parameters": [_UNCHECKED, _KEY],
            "requestBody": body("Submission", _JOB),
            "responses": answers(
                reference("MadeJob"), *_REFUSALS, also={"201": "It was made now. `Location` leads to it."}
            ),
        }
    },
    "/api/requests:batch": {
        "post": {
            "summary": f"Submit up to {MAX_BATCH} jobs; each has its own answer, in the same order",
            "parameters": [_UNCHECKED],
            "requestBody": body("Batch", {"requests": [_JOB]}),
            "responses": answers(reference("Results"), *_REFUSALS),
        }
    },
    **{f"/api/requests:{name}": {"post": _selected(name)} for name in (*ACTIONS, PATCH)},
    "/api/requests/{jobId}": {
        "get": {
            "summary": "How a job stands; with its result if it has completed, with its error if it ended otherwise",
            "parameters": [JOB_ID, *_NAMED],
            "responses": answers(reference("PresentJob"), 400, 404, 503),
        },
        "patch": {
            "summary": "Change the priority of a job that does not run, or when an ended one is deleted",
            "parameters": [JOB_ID, *_NAMED],
            "requestBody": body("Changes", _CHANGES),
            "responses": answers(reference("Changed"), *_REFUSALS),
        },
    },
    **{f"/api/requests/{{jobId}}/{name}": {"post": _action(name)} for name in ACTIONS},
}
