"""Looking at jobs: `list` and `describe`."""

from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.text import Text

from joblease_cli import output
from joblease_cli.failures import Exit
from joblease_cli.job import Job, instant
from joblease_cli.kube import API_VERSION, JobRequests, Scope
from joblease_cli.watch import changes

_FIELD = 22


def run_list(jobs: JobRequests, options: Namespace) -> Exit:
    """`joblease list`."""
    fields = {"spec.handler": options.handler, "spec.queue": options.queue}
    scope = Scope(
        None if options.all_namespaces else jobs.namespace,
        ",".join(f"{field}={value}" for field, value in fields.items() if value),
        options.selector or "",
    )
    if options.watch:
        for number, batch in enumerate(changes(jobs, scope)):
            seen = [change.job for change in batch if not change.deleted and _wanted(change.job, options)]
            if number == 0 or seen:
                _show(seen, options, title=number == 0)
        return Exit.OK
    found = [job for job in jobs.list(scope)[0] if _wanted(job, options)]
    if not found and options.output in (None, "wide", "table"):
        where = "any namespace" if options.all_namespaces else f"namespace {jobs.namespace}"
        output.notice(f"no jobs in {where}")
        return Exit.OK
    _show(found, options, title=True)
    return Exit.OK


def _wanted(job: Job, options: Namespace) -> bool:
    return not options.status or job.reason == options.status


def _show(found: Sequence[Job], options: Namespace, *, title: bool) -> None:
    if options.output in ("json", "yaml"):
        items: Mapping[str, Any] = {
            "apiVersion": API_VERSION, "kind": "JobRequestList", "items": [job.raw for job in found],
        }  # fmt: skip
        output.objects(items, options.output)
    elif options.output == "name":
        for job in found:
            output.line(job.reference)
    else:
        wide = options.output == "wide"
        header = ["NAME", "HANDLER", "STATUS", "PROGRESS", "ATTEMPT", *(["WORKER"] if wide else []), "AGE"]
        if options.all_namespaces:
            header.insert(0, "NAMESPACE")
        header += ["MESSAGE"] if wide else []
        rows = [_row(job, wide=wide, namespace=options.all_namespaces) for job in found]
        output.table(header, rows, title=title)


def _row(job: Job, *, wide: bool, namespace: bool) -> list[str | Text]:
    return [
        *([job.namespace] if namespace else []),
        job.name,
        output.clean(job.spec.get("handler", output.NONE)),
        output.status(job),
        output.bar(job.progress) if output.fancy() else (output.NONE if job.progress is None else f"{job.progress}%"),
        str(job.status.get("attempt", output.NONE)),
        *([output.clean(job.status.get("worker") or output.NONE)] if wide else []),
        output.age(job.created),
        *([output.clean(job.message)] if wide else []),
    ]


def run_describe(jobs: JobRequests, options: Namespace) -> Exit:
    """`joblease describe`."""
    job = jobs.find(options.job)
    if options.output in ("json", "yaml"):
        output.objects(job.raw, options.output)
        return Exit.OK
    for title, fields in _sections(job):
        output.line(f"{title}:")
        for name, value in fields.items():
            if value not in (None, "", {}, []):
                output.line(f"  {name + ':':{_FIELD}} {output.clean(value)}")
    output.line(f"Audit trail:\n  every step is kept under job id {job.uid}, also after this object is deleted")
    output.line(f"  (dashboard: /jobs/{job.uid}, API: GET /api/jobs/{job.uid})")
    return Exit.OK


def _sections(job: Job) -> Iterator[tuple[str, dict[str, Any]]]:
    spec, status = job.spec, job.status
    yield (
        "Job",
        {
            "Name": job.name,
            "Namespace": job.namespace,
            "Job id": job.uid,
            "Submitted": f"{job.metadata.get('creationTimestamp')} ({output.age(job.created)} ago)",
            "Retry of": (job.metadata.get("annotations") or {}).get("joblease.dev/retry-of"),
        },
    )
    simple = {name: value for name, value in spec.items() if name not in ("parameters", "retry", "concurrency")}
    yield (
        "Spec",
        {
            **simple,
            "concurrency": output.compact(spec["concurrency"]) if spec.get("concurrency") else None,
            "retry": output.compact(spec["retry"]) if spec.get("retry") else None,
            "parameters": output.compact(spec.get("parameters") or {}),
        },
    )
    began, ended = instant(status.get("startedAt")), instant(status.get("completedAt"))
    yield (
        "Status",
        {
            "Status": job.reason or "not seen by an operator yet",
            "Message": job.message,
            "Attempt": status.get("attempt"),
            "Worker": status.get("worker"),
            "Progress": None if job.progress is None else f"{job.progress}%",
            "Started": status.get("startedAt"),
            "Ended": status.get("completedAt"),
            "Duration": output.span((ended - began).total_seconds()) if began and ended else None,
            "Next attempt": status.get("nextAttemptAt"),
            "Result": output.compact(status["result"]) if "result" in status else None,
        },
    )
    yield (
        "Conditions",
        {
            each["type"]: f"{each['status']} ({each['reason']}) since {each.get('lastTransitionTime')}"
            for each in status.get("conditions") or []
        },
    )
