"""The operator, simulated: one processor, and so many reconciliations and status writes side by side."""

from collections import deque

import simpy
from capacity import GROUP, OPERATOR_CPU, OPERATOR_STATUS, OPERATOR_STEPS
from costs import (
    ADMIT,
    DEBOUNCE_SECONDS,
    HEARD_OF_A_JOB,
    OPERATOR_SHARES,
    PROGRESS_SECONDS,
    RECONCILES,
    STATUS_WRITES,
    Cost,
)

from queueing.world import BLOB, EVENT_AND_HEAD, Steps, Task, World


class Operator:
    """Admits, publishes, reflects."""

    def __init__(self, world: World) -> None:
        self._world = world
        world.hears = self._hear
        self.processor = simpy.Resource(world.env)
        self._reconciles = simpy.Resource(world.env, RECONCILES)
        self._statuses = simpy.Resource(world.env, STATUS_WRITES)
        self._slots, self._line = deque(range(world.limit)), deque[Task]()

    def begin(self, task: Task) -> Steps:
        """A new `JobRequest`."""
        yield from self._reconcile(self._begin(task))

    def _reconcile(self, work: Steps) -> Steps:
        with self._reconciles.request() as turn:
            yield turn
            since = self._world.start_work()
            yield from work
            self._world.spend(OPERATOR_STEPS, self._world.work_since(since))

    def _begin(self, task: Task) -> Steps:
        world = self._world
        yield from self._compute(OPERATOR_SHARES["admit"] / 2)
        yield world.request(BLOB)
        if self._admit(task):
            yield from self._send(task, Cost(table=1, rows=ADMIT.rows), "Submitted", "Queued")
            return
        yield world.request(EVENT_AND_HEAD)
        yield from world.say(task, "Submitted")
        if self._admit(task):
            yield from self._send(task, EVENT_AND_HEAD, "Queued")
        else:
            self._line.append(task)

    def _admit(self, task: Task) -> bool:
        if self._world.limit and task.slot is None:
            if not self._slots:
                return False
            task.slot, task.admitted_at = self._slots.popleft(), self._world.env.now
        return True

    def _send(self, task: Task, write: Cost, *events: str) -> Steps:
        world = self._world
        yield from self._compute(OPERATOR_SHARES["admit"] / 2)
        yield world.request(write)
        yield world.publish()
        world.jobs.put(task)
        for event in events:
            yield from world.say(task, event)
        world.env.process(self._reflect(task))

    def _hear(self, task: Task, event: str) -> Steps:
        site = self._world.site
        step = site.operator_step_ms / site.operator_ms
        if event in ("Submitted", "Queued"):
            return  # it has written them itself
        yield from self._compute(step if event == "Step" else OPERATOR_SHARES["hear"] / HEARD_OF_A_JOB)
        if event == "Step" and self._world.env.now - task.shown_at >= PROGRESS_SECONDS:
            task.shown_at = self._world.env.now
            yield from self._write_status()
        if event == "Completed":
            task.ended = True
            if task.slot is not None:
                self._world.spend(GROUP, self._world.env.now - task.admitted_at)
                self._slots.append(task.slot)
                if self._line and self._admit(next_task := self._line.popleft()):
                    send = self._send(next_task, EVENT_AND_HEAD, "Queued")
                    self._world.env.process(self._reconcile(send))
            self._world.on_end()
            yield from self._compute(OPERATOR_SHARES["status"])
            yield from self._write_status()

    def _reflect(self, task: Task) -> Steps:
        """The status of a running job, unless it has ended by then."""
        yield self._world.env.timeout(DEBOUNCE_SECONDS)
        if not task.ended:
            task.shown_at = self._world.env.now
            yield from self._write_status()

    def _write_status(self) -> Steps:
        with self._statuses.request() as turn:
            yield turn
            since = self._world.env.now
            yield self._world.env.timeout(self._world.takes(self._world.site.api))
            self._world.spend(OPERATOR_STATUS, self._world.env.now - since)

    def _compute(self, share: float) -> Steps:
        since = self._world.env.now
        with self.processor.request() as turn:
            yield turn
            self._world.wait(self._world.env.now - since)
            yield self._world.env.timeout(share * self._world.site.operator_ms / 1000)
            self._world.spend(OPERATOR_CPU, share * self._world.site.operator_ms / 1000)
