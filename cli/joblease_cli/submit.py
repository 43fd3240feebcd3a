"""Submitting jobs: from options to a JobRequest, checked here before the API server checks it again.

Checking first gives errors that name the option's field in plain words, and catches what the schema cannot count
(the size of the parameters). `retry` is a submission too: a job has exactly one outcome for ever, so another try is
another job.
"""

import json
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from joblease.jobrequest import KIND, JobRequestSpec, check_parameters, repeated
from joblease.limits import MAX_PARAMETERS_BYTES
from joblease.names import RETRY_OF, job_name, retry_labels, retry_name
from joblease.states import Kind, State
from joblease.tracing import ANNOTATION, child_of
from pydantic import ValidationError

from joblease_cli import actions, documents, durations, follow, output
from joblease_cli.failures import CommandError, Exit
from joblease_cli.forms import Form
from joblease_cli.job import API_VERSION, Job
from joblease_cli.kube import JobRequests

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_INT64 = range(-(1 << 63), 1 << 63)


def run(jobs: JobRequests, options: Namespace) -> Exit:
    """`joblease submit`."""
    if options.files:
        return _documents(jobs, options)
    if not options.handler:
        raise CommandError("name a handler, or files with -f", Exit.REFUSED)
    if options.name and options.generate_name:
        raise CommandError("--name and --generate-name: only one of them", Exit.REFUSED)
    job = jobs.create(manifest(options))
    print_created(job, options.output)
    return follow.as_asked(jobs, job, options)


def _documents(jobs: JobRequests, options: Namespace) -> Exit:
    """All of them or none, as far as that can be known before: the API server is asked about each without making it."""
    own = ("files", "follow", "wait", "timeout", "output", "namespace", "context", "kubeconfig", "request_timeout")
    if other := [name for name, value in vars(options).items() if value and name not in own]:
        raise CommandError(
            f"-f takes all from its files; {other[0].replace('_', '-')} has no meaning there", Exit.REFUSED
        )
    found = [
        documents.Document(each.place, _complete(each.body))
        for each in documents.read(options.files, options.namespace)
    ]
    wrong = []
    for place, body in found:
        try:
            jobs.create(body, dry_run=True)
        except CommandError as error:
            if error.code is Exit.UNAVAILABLE:
                raise CommandError(f"nothing was submitted. {place}: {error}", error.code) from None
            wrong.append(f"{place}: {error}")
    documents.refuse(wrong)
    made: list[Job] = []
    for place, body in found:
        try:
            made.append(jobs.create(body))
        except CommandError as error:
            raise CommandError(
                f"{len(made)} of {len(found)} jobs submitted, then {place}: {error}", error.code
            ) from None
        print_created(made[-1], options.output)
    return next(filter(None, [follow.as_asked(jobs, job, options) for job in made]), Exit.OK)


def _complete(body: dict[str, Any]) -> dict[str, Any]:
    """With a name, and the trace that it belongs to."""
    metadata = body["metadata"]
    name = {} if metadata.get("name") or metadata.get("generateName") else {"name": job_name(body["spec"]["handler"])}
    notes = {ANNOTATION: child_of(os.environ.get("TRACEPARENT")), **(metadata.get("annotations") or {})}
    return {**body, "metadata": {**metadata, **name, "annotations": notes}}


def retry(jobs: JobRequests, options: Namespace) -> Exit:
    """`joblease retry`: for each job a new one with the same spec."""

    def again(old: Job) -> Exit:
        if not old.ended and not options.force:
            raise CommandError(
                f"job {old.name!r} has not ended ({old.reason or 'new'}), so there is nothing to retry. "
                "Follow it, cancel it first, or run a second one beside it with --force",
                Exit.REFUSED,
            )
        labels = {**retry_labels(old.metadata), **dict(options.labels)}
        new = _resource({"name": retry_name(old.name)}, repeated(old.spec), labels, {RETRY_OF: old.name})
        job = jobs.create(new)
        print_created(job, options.output)
        return follow.as_asked(jobs, job, options)

    def wanted(job: Job) -> bool:
        anyhow = bool(options.state or options.names)
        return (job.ended or bool(options.names and options.force)) and (
            anyhow or State(job.reason).kind is Kind.FAILED
        )

    return actions.each(jobs, options, wanted, again, "submitted again")


def manifest(options: Namespace, name: str | None = None) -> dict[str, Any]:
    """The JobRequest that the options of `submit` and `publish` describe."""
    prefix = getattr(options, "generate_name", None)
    name = name or getattr(options, "name", None) or job_name(options.handler)
    return _resource({"generateName": prefix} if prefix else {"name": name}, spec_of(options), dict(options.labels))


def spec_of(options: Namespace) -> dict[str, Any]:
    """The spec, with only those fields that were given; the API server knows the defaults."""
    concurrency = {"group": options.group, "limit": options.limit}
    fields = {
        "handler": options.handler,
        "parameters": parameters(options.parameters, options.parameter, options.text),
        "inputFilePath": options.input_file_path,
        "description": options.description,
        "queue": options.queue,
        "priority": options.priority,
        "concurrency": {field: value for field, value in concurrency.items() if value is not None} or None,
        "retry": None if options.max_attempts is None else {"maxAttempts": options.max_attempts},
        "activeDeadlineSeconds": options.deadline,
        "key": getattr(options, "key", None),
        "keyTTLSeconds": getattr(options, "key_ttl", None),
        "startAfter": options.start_after,
        "ttlSecondsAfterFinished": options.ttl,
        "suspend": options.suspend or None,
    }
    try:
        spec = JobRequestSpec.model_validate({field: value for field, value in fields.items() if value is not None})
        check_parameters(spec.parameters)
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, each['loc']))}: {_expected(each)}" for each in error.errors())
        raise CommandError("refused: " + "; ".join(problems), Exit.REFUSED) from None
    except ValueError as error:
        raise CommandError(f"refused: {error}", Exit.REFUSED) from None
    return spec.model_dump(mode="json", by_alias=True, exclude_unset=True)


def parameters(file: str | None, pairs: Sequence[str], texts: Sequence[str] = ()) -> dict[str, Any]:
    """The file's object, with each `key=value` of -p and of --text put over it."""
    found = _read(file) if file else {}
    for option, each in [*(("-p", pair) for pair in pairs), *(("--text", pair) for pair in texts)]:
        key, equals, text = each.partition("=")
        if not key or not equals:
            raise CommandError(f"{option} {each!r}: expected key=value", Exit.REFUSED)
        found[key] = text if option == "--text" else value_of(text)
        value = found[key]
        if isinstance(value, int | float) and json.dumps(value) != text:
            output.notice(f"-p {each} is the number {json.dumps(value)}; for the text: --text {each}")
        elif isinstance(value, int) and value not in _INT64:
            raise CommandError(f"-p {each}: an integer of more than 64 bits; as text: --text {each}", Exit.REFUSED)
    return found


def _expected(error: "ErrorDetails") -> str:
    """What a field is to be."""
    if error["type"].startswith(("datetime", "timezone")):
        return f"expected a time with its zone, as 2030-01-01T00:00:00Z, or from now, as 1h30m, not {error['input']!r}"
    return str(error["msg"])


def value_of(text: str) -> Any:
    """JSON when the text is JSON, else the text itself."""
    try:
        value = json.loads(text)
        json.dumps(value, allow_nan=False)  # Python reads NaN and 1e999, which are no JSON
    except (ValueError, RecursionError):
        return text
    return value


def label(text: str) -> tuple[str, str]:
    """A label and its value. Raises `ValueError`."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise ValueError(f"expected key=value, not {text!r}")
    return key, value


def _read(file: str) -> dict[str, Any]:
    try:
        if file == "-":
            text = sys.stdin.read(4 * MAX_PARAMETERS_BYTES)
        else:
            with Path(file).open(encoding="utf-8") as opened:
                text = opened.read(4 * MAX_PARAMETERS_BYTES)
        found = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise CommandError(f"--parameters {file}: cannot be read as JSON: {error}", Exit.REFUSED) from None
    if not isinstance(found, dict):
        raise CommandError(f"--parameters {file}: expected a JSON object, such as {{'steps': 3}}", Exit.REFUSED)
    return found


def start_after(text: str, now: datetime | None = None) -> str:
    """An RFC 3339 time as it is, or the time so long from now."""
    try:
        return ((now or datetime.now(UTC)) + timedelta(seconds=durations.seconds(text))).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError):
        return text


def print_created(job: Job, form: Form | None) -> None:
    """Say what was created, as kubectl does."""
    if form:
        form.one(job.raw)
    else:
        output.line(f"{job.reference} created")


def _resource(
    names: dict[str, str], spec: dict[str, Any], labels: dict[str, str], notes: dict[str, str] | None = None
) -> dict[str, Any]:
    trace = child_of(os.environ.get("TRACEPARENT"))
    metadata = {**names, "annotations": {ANNOTATION: trace, **(notes or {})}, **({"labels": labels} if labels else {})}
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec}
