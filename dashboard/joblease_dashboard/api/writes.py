"""The part of the OpenAPI document that is about changes; schemas come from the models."""

from typing import Any

from pydantic.json_schema import models_json_schema

from joblease_dashboard.api.models import MAX_BATCH, Batch, ProblemDetails, Results, Submission
from joblease_dashboard.api.operations import REFERENCE, answers, body, parameter, reference

_SENT = (Submission, Batch)
_GIVEN = (Results, ProblemDetails)
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
            "parameters": [_UNCHECKED],
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
}
