"""`history`, `workers`, `queues` and `dead-letters`: tables of what the dashboard's API tells."""

from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

from joblease.states import State
from rich.text import Text

from joblease_cli import durations, output
from joblease_cli.failures import CommandError, Exit
from joblease_cli.job import instant

if TYPE_CHECKING:
    from joblease_cli.dashboard import Dashboard

Row = Mapping[str, Any]
PAGE = 1_000
Columns = Mapping[str, Callable[[Row], str | Text]]


def _text(name: str) -> Callable[[Row], str]:
    return lambda row: output.NONE if row.get(name) in (None, "") else output.clean(row[name])


def _age(name: str) -> Callable[[Row], str]:
    return lambda row: output.age(instant(row.get(name)))


def _state(row: Row) -> Text:
    return Text(output.clean(row["state"]), output.STYLES[State(row["state"]).kind.look])


def _ran(row: Row) -> str:
    began, ended = instant(row.get("startedAt")), instant(row.get("completedAt"))
    return output.span(((ended or datetime.now(UTC)) - began).total_seconds()) if began else output.NONE


_JOBS: Columns = {
    "NAMESPACE": _text("namespace"), "NAME": _text("name"), "HANDLER": _text("handler"), "STATUS": _state,
    "ATTEMPT": _text("attempt"), "RAN": _ran, "AGE": _age("submittedAt"),
}  # fmt: skip
_JOBS_WIDE: Columns = {
    "JOB ID": _text("jobId"), "QUEUE": _text("queue"), "GROUP": _text("group"), "WORKER": _text("worker"),
    "MESSAGE": _text("message"),
}  # fmt: skip
_EVENTS: Columns = {
    "TIME": _text("timestamp"), "NAMESPACE": _text("namespace"), "NAME": _text("name"), "EVENT": _text("status"),
    "MESSAGE": _text("message"),
}  # fmt: skip
_EVENTS_WIDE: Columns = {
    "JOB ID": _text("jobId"), "SEQUENCE": _text("sequence"), "HANDLER": _text("handler"), "ATTEMPT": _text("attempt"),
    "WORKER": _text("worker"),
}  # fmt: skip
_WORKERS: Columns = {
    "WORKER": _text("worker"), "STATE": _text("state"), "QUEUE": _text("queue"),
    "JOBS": lambda row: f"{len(row['jobs'])}/{row['concurrency']}", "SEEN": _age("seenAt"), "RELEASE": _text("release"),
}  # fmt: skip
_WORKERS_WIDE: Columns = {
    "UP": _age("startedAt"), "HANDLERS": lambda row: ",".join(each["name"] for each in row["handlers"]) or output.NONE,
    "JOB IDS": lambda row: ",".join(row["jobs"]) or output.NONE,
}  # fmt: skip
_QUEUES: Columns = {
    "QUEUE": _text("queue"), "READY": _text("ready"), "UNACKNOWLEDGED": _text("unacknowledged"),
    "DEFERRED": _text("deferred"), "CONSUMERS": _text("consumers"),
}  # fmt: skip
_QUEUES_WIDE: Columns = {"PURPOSE": _text("purpose")}
_LETTERS: Columns = {
    "QUEUE": _text("queue"), "NAME": _text("name"), "JOB ID": _text("jobId"), "REASON": _text("reason"),
}  # fmt: skip
_LETTERS_WIDE: Columns = {"BODY": _text("body")}


def history(dashboard: "Dashboard", options: Namespace) -> Exit:
    """`joblease history`: jobs, also those that were deleted, or with --events what happened to them."""
    if options.status and not options.events:
        raise CommandError("--status is a filter of --events; --state is that of jobs", Exit.REFUSED)
    if options.state and options.events:
        raise CommandError("--state is a filter of jobs; --status is that of --events", Exit.REFUSED)
    said = {
        "namespace": None if options.all_namespaces else dashboard.namespace, "handler": options.handler,
        "group": options.group, "name": options.name, "state": options.state, "status": options.status,
        "from": options.since, "to": options.until, "page_size": min(options.limit, PAGE),
    }  # fmt: skip
    query = {name: str(value) for name, value in said.items() if value}
    path, name = ("/api/jobs", "events") if options.events else ("/api/requests", "jobs")
    rows = dashboard.rows(path, query, name, "the history")
    found = list(islice(rows, options.limit))
    plain, wide = (_EVENTS, _EVENTS_WIDE) if options.events else (_JOBS, _JOBS_WIDE)
    if not options.all_namespaces:
        plain = {title: show for title, show in plain.items() if title != "NAMESPACE"}
    _show(found, name, plain, wide, options)
    if len(found) == options.limit and next(rows, None):
        output.notice(f"these are the last {options.limit}; --limit shows more")
    return Exit.OK


def workers(dashboard: "Dashboard", options: Namespace) -> Exit:
    """`joblease workers`."""
    return _all(dashboard, options, "/api/workers", "workers", _WORKERS, _WORKERS_WIDE)


def queues(dashboard: "Dashboard", options: Namespace) -> Exit:
    """`joblease queues`."""
    return _all(dashboard, options, "/api/queues", "queues", _QUEUES, _QUEUES_WIDE)


def dead_letters(dashboard: "Dashboard", options: Namespace) -> Exit:
    """`joblease dead-letters`."""
    return _all(dashboard, options, "/api/dead-letters", "deadLetters", _LETTERS, _LETTERS_WIDE)


def _all(dashboard: "Dashboard", options: Namespace, path: str, name: str, plain: Columns, wide: Columns) -> Exit:
    _show(dashboard.get(path, {}, f"the list of {_said(name)}")[name], name, plain, wide, options)
    return Exit.OK


def _show(found: Sequence[Row], name: str, plain: Columns, wide: Columns, options: Namespace) -> None:
    if options.output not in (None, "table", "wide"):
        options.output.many(found, name)
        return
    if not found:
        output.notice(f"no {_said(name)}")
        return
    columns = {**plain, **wide} if options.output == "wide" else plain
    rows = [[show(row) for show in columns.values()] for row in found]
    output.table(list(columns), rows, title=not options.no_headers, whole=options.output == "wide")


def _said(name: str) -> str:
    return "dead letters" if name == "deadLetters" else name


def moment(text: str, now: datetime | None = None) -> str:
    """An RFC 3339 time as it is, or the time so long ago."""
    try:
        found = (now or datetime.now(UTC)) - timedelta(seconds=durations.seconds(text))
    except (ValueError, OverflowError):
        return text
    return found.strftime("%Y-%m-%dT%H:%M:%SZ")
