"""Pieces of the API's description: parameters, bodies and answers of an operation."""

from typing import Any

from joblease_dashboard.api.schemas import TEXT

REFERENCE = "#/components/schemas/{model}"


def parameter(name: str, description: str, schema: Any = None) -> dict[str, Any]:
    """A parameter of the query."""
    return {"name": name, "in": "query", "description": description, "schema": schema or TEXT}


JOB_ID = {"name": "jobId", "in": "path", "required": True, "schema": TEXT}


def reference(model: str) -> dict[str, str]:
    """A schema that has a name."""
    return {"$ref": REFERENCE.format(model=model)}


def body(model: str, example: Any) -> dict[str, Any]:
    """What is sent."""
    return {"required": True, "content": {"application/json": {"schema": reference(model), "example": example}}}


def answers(
    schema: Any, *problems: int, media: str = "application/json", also: dict[str, str] | None = None
) -> dict[str, Any]:
    """What may come back; `also`: other statuses with the same schema, and what they mean."""
    problem = {"application/problem+json": {"schema": reference("ProblemDetails")}}
    content = {media: {"schema": schema}}
    return {
        "200": {"description": "As asked for.", "content": content},
        **{status: {"description": meaning, "content": content} for status, meaning in (also or {}).items()},
        **{str(code): {"description": "Why not.", "content": problem} for code in (*problems, 401, 403, 429)},
    }
