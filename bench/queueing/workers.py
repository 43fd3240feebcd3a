"""Workers, simulated: leases that are taken, kept, given back, or left behind."""

from collections.abc import Callable, Sequence
from typing import Any

import simpy
from capacity import WORKERS
from costs import DEFER_SECONDS, DESCRIBE_SECONDS, RECOVER, RENEW_SECONDS, STEP, Cost

from queueing.world import BLOB, EVENT_AND_HEAD, Lease, Steps, Task, World

MOST_SLOTS_TRIED = 8


class Workers:
    """Run jobs under leases."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._leases: dict[object, Lease] = {}
        self._running: set[Task] = set()
        self._busy: dict[Any, Task] = {}
        for _ in range(world.site.workers):
            world.env.process(self._work())

    def kill(self, count: int, back_after: float) -> list[Task]:
        """Kill workers in the middle of a run; others come in their place after some seconds. Gives their jobs."""
        world = self._world
        victims = world.some([each for each in self._busy.items() if each[1] in self._running], count)
        for worker, task in victims:
            task.lost_at = world.env.now
            for lease in self._of(task):
                lease.alive = False
            worker.interrupt()
            world.env.process(self._later(back_after, lambda: world.env.process(self._work())))
        return [task for _, task in victims]

    def _work(self) -> Steps:
        me = self._world.env.active_process
        while True:
            task = yield self._world.jobs.get()
            self._busy[me], since = task, self._world.start_work()
            try:
                yield from self._handle(task)
                self._world.spend(WORKERS, self._world.work_since(since))
            except simpy.Interrupt:
                self._running.discard(task)
                self._world.jobs.put(task)  # the broker delivers again what was not acknowledged
                return
            finally:
                del self._busy[me]

    def _handle(self, task: Task) -> Steps:
        world = self._world
        yield world.env.timeout(world.takes(world.site.deliver))
        taken: list[object] = []
        for name in task.blobs:
            yield world.request(BLOB, *self._bucket(name))
            if name in self._leases and self._leases[name].held(world.env.now):
                yield from self._release(taken)
                yield from self._defer(task)
                return
            self._leases[name] = Lease(world.env.now)
            taken.append(name)
        if task.runs:
            yield world.request(RECOVER)
        yield world.request(EVENT_AND_HEAD)
        yield world.env.timeout(world.site.worker_ms / 1000)
        yield from self._run(task)
        yield world.request(EVENT_AND_HEAD)
        yield from self._release(taken)
        world.figures.ended += 1
        yield from world.say(task, "Completed")

    def _release(self, names: Sequence[object]) -> Steps:
        """Give leases back, all at once."""
        yield self._world.env.all_of([self._world.request(BLOB, *self._bucket(name)) for name in names])
        for name in names:
            self._leases.pop(name).alive = False

    def _run(self, task: Task) -> Steps:
        world, job = self._world, self._world.job
        if task in self._running:
            raise AssertionError("a job runs twice at the same time")
        self._running.add(task)
        world.figures.most_running = max(world.figures.most_running, len(self._running))
        if not task.runs:
            world.figures.waited.append(world.env.now - task.submitted_at)
        elif task.lost_at is not None:
            task.recovered_after = world.env.now - task.lost_at
        task.runs += 1
        world.env.process(world.say(task, "Started"))
        if job.seconds > DESCRIBE_SECONDS:
            for name in task.blobs:
                world.env.process(self._keep(name))
        for _ in range(job.steps):
            yield world.env.timeout(job.seconds / job.steps)
            world.env.process(self._step(task))
        if not job.steps:
            yield world.env.timeout(job.seconds)
        self._running.discard(task)

    def _step(self, task: Task) -> Steps:
        yield self._world.request(STEP)
        yield from self._world.say(task, "Step")

    def _keep(self, name: object) -> Steps:
        """Describe a lease, and renew it for as long as its holder lives."""
        world, lease = self._world, self._leases[name]
        for pause in (DESCRIBE_SECONDS, RENEW_SECONDS - DESCRIBE_SECONDS):
            yield world.env.timeout(pause)
            if lease.alive:
                yield world.request(BLOB, *self._bucket(name))
        while lease.alive:
            lease.renewed_at = world.env.now
            world.figures.renewals += 1
            yield world.env.timeout(RENEW_SECONDS)
            if lease.alive:
                yield world.request(BLOB, *self._bucket(name))

    def _defer(self, task: Task) -> Steps:
        world = self._world
        for _ in range(min(world.limit, MOST_SLOTS_TRIED) - 1):
            yield world.request(BLOB)
        if not task.deferrals:
            yield world.request(Cost(table=1, rows=1))
        task.deferrals += 1
        world.figures.deferrals += 1
        yield world.publish()
        world.env.process(self._later(DEFER_SECONDS, lambda: world.jobs.put(task)))

    def _later(self, seconds: float, act: Callable[[], object]) -> Steps:
        yield self._world.env.timeout(seconds)
        act()

    def _of(self, task: Task) -> list[Lease]:
        return [self._leases[name] for name in task.blobs if name in self._leases]

    def _bucket(self, name: object) -> tuple[Any, ...]:
        return (self._world.slot_blobs[name],) if isinstance(name, int) else ()
