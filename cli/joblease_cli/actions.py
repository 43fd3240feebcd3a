"""Doing something to jobs that are named or selected: `cancel`, `suspend`, `resume`; `retry` is in `submit`."""

import sys
from argparse import Namespace
from collections.abc import Callable, Iterator

from joblease.states import State

from joblease_cli import follow, output
from joblease_cli.failures import CommandError, Exit
from joblease_cli.job import Job
from joblease_cli.kube import JobRequests, Scope


def each(
    jobs: JobRequests,
    options: Namespace,
    wanted: Callable[[Job], bool],
    do: Callable[[Job], Exit | None],
    done: str,
) -> Exit:
    """Do it to the named jobs, or to those that are selected and `wanted`; the first trouble's exit code.

    A job for which it cannot be done does not keep the others from it. A server that does not answer does.
    `done` is the word for what becomes of a job, as "cancelled".
    """
    selected = bool(options.selector or options.handler or options.state)
    if bool(options.names) + selected + options.all != 1:
        raise CommandError("name jobs, or select them with -l, --handler and --state, or with --all", Exit.REFUSED)
    found = list(_found(jobs, options, wanted))
    if found and not (options.names or options.dry_run or options.yes):
        _ask(f"{_counted(len(found))} of namespace {jobs.namespace} will be {done}")
    first, count = Exit.OK, 0
    for find in found:
        try:
            job = find()
            if not options.dry_run:
                code = do(job) or Exit.OK
            else:
                code = Exit.OK
                count += wanted(job)
                output.line(f"{job.reference} would be {done if wanted(job) else 'left as it is'}")
        except CommandError as error:
            if error.code is Exit.UNAVAILABLE:
                raise
            output.error(error)
            code = error.code
        first = first or code
    if options.dry_run:
        output.line(f"{_counted(count)} would be {done}")
    return first


def _counted(count: int) -> str:
    return f"{count} job{'' if count == 1 else 's'}"


def _ask(what: str) -> None:
    """Ask whether that is meant, when there is somebody to ask."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    sys.stderr.write(f"{output.clean(what)}. Go on? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CommandError("nothing was done", Exit.REFUSED)


def _found(jobs: JobRequests, options: Namespace, wanted: Callable[[Job], bool]) -> Iterator[Callable[[], Job]]:
    if options.names:
        yield from ((lambda name=name: jobs.find(name)) for name in options.names)
        return
    fields = f"spec.handler={options.handler}" if options.handler else ""
    found = [
        job
        for job in jobs.list(Scope(jobs.namespace, fields, options.selector or ""))[0]
        if wanted(job) and options.state in (None, job.reason or State.SUBMITTED)
    ]
    if not found:
        output.notice(f"no such jobs in namespace {jobs.namespace}")
    yield from ((lambda job=job: job) for job in found)


def cancel(jobs: JobRequests, options: Namespace) -> Exit:
    """`joblease cancel`: stop jobs, waiting or running. An ended one is left as it is."""
    cancelled: list[Job] = []

    def order(job: Job) -> None:
        if job.ended:
            output.line(f"{job.reference} has ended already ({job.reason})")
            return
        cancelled.append(jobs.change(job.name, {"cancel": True}))
        output.line(f"{job.reference} is being cancelled")

    code = each(jobs, options, lambda job: not job.ended, order, "cancelled")
    if options.wait:
        for job in cancelled:
            ended = follow.until_end(jobs, job, options.timeout, quiet=True)
            if ended is not Exit.JOB_CANCELLED:
                output.notice(f"job {job.name!r} ended before it could be cancelled")
    return code


def suspend(jobs: JobRequests, options: Namespace) -> Exit:
    """`joblease suspend`: hold waiting jobs back."""
    return _hold(jobs, options, suspended=True)


def resume(jobs: JobRequests, options: Namespace) -> Exit:
    """`joblease resume`: let them go."""
    return _hold(jobs, options, suspended=False)


def _hold(jobs: JobRequests, options: Namespace, *, suspended: bool) -> Exit:
    def hold(job: Job) -> None:
        if job.ended:
            raise CommandError(f"job {job.name!r} has ended already ({job.reason})", Exit.REFUSED)
        jobs.change(job.name, {"suspend": suspended})
        output.line(f"{job.reference} {'suspended' if suspended else 'resumed'}")
        if suspended and job.reason in ("Queued", "Running"):
            output.notice(f"a worker has job {job.name!r} already ({job.reason}); it goes on. See `joblease cancel`")

    def wanted(job: Job) -> bool:
        return not job.ended and bool(job.spec.get("suspend")) is not suspended

    return each(jobs, options, wanted, hold, "suspended" if suspended else "resumed")
