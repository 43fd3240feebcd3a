"""Following a job to its end: a progress bar on a terminal, a line for each change anywhere else."""

import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Protocol

from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column
from rich.text import Text

from joblease_cli import output
from joblease_cli.failures import CommandError, Exit
from joblease_cli.job import Job, instant
from joblease_cli.kube import JobRequests
from joblease_cli.watch import states

_UNNOTICED_SECONDS = 10


def run(jobs: JobRequests, options: Namespace) -> Exit:
    """`joblease follow`."""
    return until_end(jobs, jobs.find(options.job), options.timeout)


def as_asked(jobs: JobRequests, job: Job, options: Namespace) -> Exit:
    """What --follow and --wait of the other commands ask for."""
    if options.follow or options.wait:
        return until_end(jobs, job, options.timeout, quiet=not options.follow)
    return Exit.OK


def until_end(jobs: JobRequests, job: Job, timeout: float | None, *, quiet: bool = False) -> Exit:
    """Show the job until it has ended; its outcome as the exit code."""
    deadline = None if timeout is None else time.monotonic() + timeout
    began, warned = time.monotonic(), False
    with _view(quiet=quiet) as view:
        try:
            for state in states(jobs, job, deadline):
                job = state
                view.show(job)
                if not job.reason and not warned and time.monotonic() - began > _UNNOTICED_SECONDS:
                    output.notice(f"no operator has noticed job {job.name!r} yet; is joblease-operator running?")
                    warned = True
        except CommandError as error:
            if error.code is not Exit.TIMEOUT:
                raise
            raise CommandError(
                f"job {job.name!r} has not ended within {timeout:g} s ({job.reason or 'not seen by the operator'}); "
                f"it goes on. See it again: joblease follow {job.name}",
                Exit.TIMEOUT,
            ) from None
    output.line(outcome(job))
    return job.exit


def outcome(job: Job) -> Text:
    """The last line: how it ended, how long it took, what came out."""
    line = Text.assemble(output.clean(job.name), " ", output.status(job))
    began, ended = instant(job.status.get("startedAt")), instant(job.status.get("completedAt"))
    if began and ended:
        line.append(f" after {output.span((ended - began).total_seconds())}")
    attempt = job.status.get("attempt") or 0
    if attempt > 1:
        line.append(f" and {attempt} attempts")
    if job.exit is Exit.OK and job.status.get("result") is not None:
        line.append(f": {output.clean(output.compact(job.status['result']))}")
    elif job.exit is not Exit.OK and job.message:
        line.append(f": {output.clean(job.message)}")
    return line


class _View(Protocol):
    def show(self, job: Job) -> None: ...


class _Quiet:
    def show(self, job: Job) -> None:
        """--wait shows the outcome only."""


class _Lines:
    def __init__(self) -> None:
        self._last = ""

    def show(self, job: Job) -> None:
        """A line, unless it would say what the last one said."""
        percent = "" if job.progress is None else f"{job.progress}%"
        parts = (output.clean(job.reason) or "Submitted", percent, output.clean(job.message))
        text = "  ".join(part for part in parts if part)
        if text != self._last:
            self._last = text
            output.line(f"{datetime.now().astimezone():%H:%M:%S}  {text}")


class _State(ProgressColumn):
    def render(self, task: Task) -> Text:
        """The state as it is, in its colour."""
        state: Text = task.fields["state"]
        return state


class _Bar:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=100, name="", state=Text(), message="")

    def show(self, job: Job) -> None:
        """Bring the bar up to date."""
        self._progress.update(
            self._task,
            state=Text(output.clean(job.reason or "Submitted"), output.style(job)),
            completed=100 if job.exit is Exit.OK and job.ended else job.progress or 0,
            name=output.clean(job.name),
            message=output.clean(job.message),
        )


@contextmanager
def _view(*, quiet: bool) -> Iterator[_View]:
    if quiet:
        yield _Quiet()
    elif output.fancy():
        name = Column(no_wrap=True, overflow="ellipsis", max_width=24)
        message = Column(no_wrap=True, overflow="ellipsis", ratio=1)
        columns: list[ProgressColumn] = [
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.fields[name]}", style="bold", markup=False, table_column=name),
            _State(),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[message]}", style="dim", markup=False, table_column=message),
        ]
        if not output.roomy():
            columns = [column for column in columns if not isinstance(column, BarColumn | TimeElapsedColumn)][1:]
        # It goes when the job has ended: the outcome's line says all that is left to say.
        with Progress(*columns, console=output.console(), transient=True, refresh_per_second=8) as progress:
            yield _Bar(progress)
    else:
        yield _Lines()
