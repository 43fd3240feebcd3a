"""Looking at jobs: `list` and `describe`."""

from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.text import Text

from joblease_cli import output
from joblease_cli.failures import CommandError, Exit
from joblease_cli.job import Job, instant
from joblease_cli.kube import JobRequests, Scope
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
        _watch(jobs, scope, options)
        return Exit.OK
    found = [job for job in jobs.list(scope)[0] if _wanted(job, options)]
    if not _is_table(options):
        options.output.many([job.raw for job in found])
    elif found:
        _table(found, options, title=not options.no_headers)
    else:
        where = "any namespace" if options.all_namespaces else f"namespace {jobs.namespace}"
        output.notice(f"no jobs in {where}")
    return Exit.OK


def _watch(jobs: JobRequests, scope: Scope, options: Namespace) -> None:
    """A row for each change, under one heading; or each object by itself, as kubectl does."""
    for number, batch in enumerate(changes(jobs, scope)):
        seen = [change.job for change in batch if not change.deleted and _wanted(change.job, options)]
        if not _is_table(options):
            for job in seen:
                options.output.one(job.raw)
        elif number == 0 or seen:
            _table(seen, options, title=number == 0 and not options.no_headers)


def _is_table(options: Namespace) -> bool:
    return options.output in (None, "table", "wide")


def _wanted(job: Job, options: Namespace) -> bool:
    return not options.status or job.reason == options.status


def _table(found: Sequence[Job], options: Namespace, *, title: bool) -> None:
    wide = options.output == "wide"
    header = ["NAME", "HANDLER", "STATUS", "PROGRESS", "ATTEMPT", *(["WORKER"] if wide else []), "AGE"]
    if options.all_namespaces:
        header.insert(0, "NAMESPACE")
    header += [*(["MESSAGE"] if wide else []), *(["LABELS"] if options.show_labels else [])]
    output.table(header, [_row(job, options, wide=wide) for job in found], title=title, whole=wide)


def _row(job: Job, options: Namespace, *, wide: bool) -> list[str | Text]:
    labels = ",".join(f"{key}={value}" for key, value in (job.metadata.get("labels") or {}).items())
    return [
        *([job.namespace] if options.all_namespaces else []),
        job.name,
        output.clean(job.spec.get("handler", output.NONE)),
        output.status(job),
        output.bar(job.progress),
        str(job.status.get("attempt", output.NONE)),
        *([output.clean(job.status.get("worker") or output.NONE)] if wide else []),
        output.age(job.created),
        *([output.clean(job.message)] if wide else []),
        *([labels or "<none>"] if options.show_labels else []),
    ]


def run_describe(jobs: JobRequests, options: Namespace) -> Exit:
    """`joblease describe`."""
    try:
        job = jobs.find(options.job)
    except CommandError as error:
        if error.code is not Exit.NOT_FOUND or not (options.dashboard or options.trail):
            raise
        found = _trail(options, options.job)
        if options.output:
            options.output.one(found)
        else:
            _print([("Job (deleted; from its audit trail)", found["job"]), _events(found)])
        return Exit.OK
    told = _trail(options, job.uid) if options.trail else None
    if options.output:
        options.output.one(told or job.raw)
        return Exit.OK
    _print(sections(job))
    if told:
        _print([_events(told)])
        return Exit.OK
    output.line(f"Audit trail:\n  every step is kept under job id {job.uid}, also after this object is deleted")
    output.line(f"  (joblease describe {job.uid} --trail, on the dashboard: /jobs/{job.uid})")
    return Exit.OK


def _trail(options: Namespace, wanted: str) -> dict[str, Any]:
    from joblease_cli.dashboard import Dashboard  # of most jobs the resource tells all

    with Dashboard(options) as dashboard:
        return dashboard.trail(wanted)


def _print(sections: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
    for title, fields in sections:
        output.line(f"{title}:")
        for name, value in fields.items():
            if value not in (None, "", {}, []):
                output.line(f"  {name + ':':{_FIELD}} {output.clean(value)}")


def _events(found: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """All that happened, by its number: two events may have one time."""
    return (
        "Events",
        {
            f"{each['sequence']} {each['timestamp']} {each['status']}": (
                f"{each.get('message', '')} {_json(each.get('data'))}".strip() or output.NONE
            )
            for each in found["events"]
        },
    )


def _policy(policy: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Under which rules the job was admitted, and who has given them."""
    own = {**(spec.get("concurrency") or {}), **(spec.get("retry") or {}), **spec}
    titles = {"group": "Group", "limit": "Limit", "maxAttempts": "Max attempts", "activeDeadlineSeconds": "Deadline"}
    for name, title in titles.items():
        if name in policy:
            of_handler = name in policy.get("fromHandler", ())
            value = output.span(policy[name]) if name == "activeDeadlineSeconds" else policy[name]
            giver = " (from the handler)" if of_handler else "" if name in own else " (default)"
            yield title, f"{value}{giver}"


def _json(value: Any) -> str:
    return "" if value is None else output.compact(value)


def sections(job: Job) -> Iterator[tuple[str, dict[str, Any]]]:
    """What `describe` shows of a job: titles, and what is below each."""
    spec, status = job.spec, job.status
    yield (
        "Job",
        {
            "Name": job.name,
            "Namespace": job.namespace,
            "Job id": job.uid,
            "Submitted": f"{job.metadata.get('creationTimestamp')} ({output.age(job.created)} ago)",
            "Labels": ", ".join(f"{key}={value}" for key, value in (job.metadata.get("labels") or {}).items()),
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
    yield "Policy", dict(_policy(status.get("policy") or {}, spec))
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
