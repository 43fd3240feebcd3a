"""A job as a command gets it: JSON on its standard input, and environment variables for those who do not read JSON."""

import json
import re
from typing import Any

from joblease.handlers import JobContext

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def document(job: JobContext) -> bytes:
    """JSON with the fields of `JobContext`, named as in the custom resource."""
    return _encode(
        {
            "id": job.id,
            "name": job.name,
            "namespace": job.namespace,
            "handler": job.handler,
            "parameters": job.parameters,
            "inputFilePath": job.input_file_path,
            "description": job.description,
            "attempt": job.attempt,
            "epoch": job.epoch,
            "worker": job.worker,
            "traceparent": job.traceparent,
            "lastCheckpoint": job.last_checkpoint,
        }
    ).encode()


def variables(job: JobContext) -> dict[str, str]:
    """`JOBLEASE_JOB_…`, and `JOBLEASE_PARAMETER_…` for each parameter: text as it is, everything else as JSON.

    What is not given has no variable. No variable can hold a NUL; it is left out.
    """
    known = {
        "JOBLEASE_JOB_ID": job.id,
        "JOBLEASE_JOB_NAME": job.name,
        "JOBLEASE_JOB_NAMESPACE": job.namespace,
        "JOBLEASE_JOB_HANDLER": job.handler,
        "JOBLEASE_JOB_INPUT_FILE_PATH": job.input_file_path,
        "JOBLEASE_JOB_DESCRIPTION": job.description,
        "JOBLEASE_JOB_ATTEMPT": job.attempt,
        "JOBLEASE_JOB_EPOCH": job.epoch,
        "JOBLEASE_JOB_WORKER": job.worker,
        "JOBLEASE_JOB_TRACEPARENT": job.traceparent,
        "JOBLEASE_JOB_LAST_CHECKPOINT": job.last_checkpoint,
        **{_variable(name): value for name, value in job.parameters.items()},
    }
    return {name: _text(value).replace("\0", "") for name, value in known.items() if value is not None}


def _variable(parameter: str) -> str:
    return "JOBLEASE_PARAMETER_" + re.sub("[^A-Z0-9_]", "_", parameter.upper())


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _encode(value)
