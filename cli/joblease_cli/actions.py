"""Changing what a job may do: `cancel`, `suspend` and `resume`."""

from argparse import Namespace

from joblease_cli import follow, output
from joblease_cli.failures import CommandError, Exit
from joblease_cli.job import Job
from joblease_cli.kube import JobRequests


def cancel(jobs: JobRequests, options: Namespace) -> Exit:
    """`joblease cancel`: stop jobs, waiting or running. An ended one is left as it is."""
    cancelled: list[Job] = []
    for wanted in options.jobs:
        job = jobs.find(wanted)
        if job.ended:
            output.line(f"{job.reference} has ended already ({job.reason})")
            continue
        cancelled.append(jobs.change(job.name, {"cancel": True}))
        output.line(f"{job.reference} is being cancelled")
    if options.wait:
        for job in cancelled:
            ended = follow.until_end(jobs, job, options.timeout, quiet=True)
            if ended is not Exit.JOB_CANCELLED:
                output.notice(f"job {job.name!r} ended before it could be cancelled")
    return Exit.OK


def suspend(jobs: JobRequests, options: Namespace) -> Exit:
    """`joblease suspend`: hold waiting jobs back."""
    return _hold(jobs, options, suspended=True)


def resume(jobs: JobRequests, options: Namespace) -> Exit:
    """`joblease resume`: let them go."""
    return _hold(jobs, options, suspended=False)


def _hold(jobs: JobRequests, options: Namespace, *, suspended: bool) -> Exit:
    for wanted in options.jobs:
        job = jobs.find(wanted)
        if job.ended:
            raise CommandError(f"job {job.name!r} has ended already ({job.reason})", Exit.REFUSED)
        jobs.change(job.name, {"suspend": suspended})
        output.line(f"{job.reference} {'suspended' if suspended else 'resumed'}")
        if suspended and job.reason in ("Queued", "Running"):
            output.notice(f"a worker has job {job.name!r} already ({job.reason}); it goes on. See `joblease cancel`")
    return Exit.OK
