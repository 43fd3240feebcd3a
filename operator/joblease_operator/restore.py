"""The first look at everything: before anybody is admitted, all who hold slots and all who stand in line are known."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from joblease.errors import ErrorClass, classify, log_level, pauses
from joblease.together import together
from joblease.trail import UnknownJob

if TYPE_CHECKING:
    from joblease_operator.admissions import Admissions
    from joblease_operator.job import Body, Job
    from joblease_operator.kube import JobRequests
    from joblease_operator.record import Record

log = logging.getLogger(__name__)

READERS = 32
OBSERVED_IN_ONE_TURN, PLACED_IN_ONE_TURN = 25, 250
"""Jobs that are read, and that are put in line, before the event loop gets its turn."""


async def restore(
    requests: "JobRequests",
    jobs: "Mapping[str, Job]",
    observe: "Callable[[str | None, Body], None]",
    record: "Record",
    admissions: "Admissions",
    add: "Callable[[str], None]",
) -> None:
    """Complete the picture, read the head row of each job that has not ended, and have all looked at (`add`).

    The watch has shown most resources, or all; only when there are more than that, all are listed. Ends when storage
    and API server answer.
    """
    for pause in pauses(1.0):
        try:
            if await requests.count() > len(jobs):
                await _list(requests, observe)
            await _recall(jobs, record)
            break
        except Exception as error:  # noqa: BLE001 - whatever is away, it is waited for
            log.log(log_level(error), "the present jobs cannot be read yet, trying again: %s", error)
            await asyncio.sleep(pause)
    ended = []
    for number, job in enumerate(_present(jobs)):
        if job.finished:
            ended.append(job.uid)
        else:
            _place(job, admissions)
            add(job.uid)
        if number % PLACED_IN_ONE_TURN == 0:
            await asyncio.sleep(0)
    for uid in ended:  # nobody waits for them
        add(uid)
    scheduler = admissions.scheduler
    log.info("%d jobs found; %d wait, %d were admitted", len(jobs), scheduler.waiting, scheduler.admitted)


async def _list(requests: "JobRequests", observe: "Callable[[str | None, Body], None]") -> None:
    number = 0
    async for body in requests.everything():
        observe(None, body)
        number += 1
        if number % OBSERVED_IN_ONE_TURN == 0:
            await asyncio.sleep(0)


def _present(jobs: "Mapping[str, Job]") -> "Iterator[Job]":
    """All jobs; those that come or go meanwhile do not matter.

    By their ids: the garbage collector leaves a tuple of texts alone, and would walk a list of jobs again and again.
    """
    for uid in tuple(jobs):
        if job := jobs.get(uid):
            yield job


async def _recall(jobs: "Mapping[str, Job]", record: "Record") -> None:
    unread = (job for job in _present(jobs) if job.state is None)
    await together(*(_read(unread, record) for _ in range(READERS)))


async def _read(unread: "Iterator[Job]", record: "Record") -> None:
    for job in unread:
        try:
            with contextlib.suppress(UnknownJob):
                await record.recall(job)
        except Exception as error:
            if classify(error) is not ErrorClass.PERMANENT:
                raise
            log.exception("%s: its trail cannot be read", job.label)  # all others can


def _place(job: "Job", admissions: "Admissions") -> None:
    if job.spec is None:
        return
    if job.state and job.state.admitted:
        admissions.hold(job)
    elif not job.wants_cancel:
        admissions.enqueue(job)
