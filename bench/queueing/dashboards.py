"""The dashboard, simulated: events written into the history, batch after batch."""

from capacity import FEED, INDEX
from costs import INDEX_BATCH, INDEX_BATCH_SECONDS, Cost

from queueing.world import Steps, World


class Dashboard:
    """Writes the history, batch after batch."""

    def __init__(self, world: World) -> None:
        self._world = world
        for _ in range(world.site.dashboards):
            world.env.process(self._write())

    def _write(self) -> Steps:
        world = self._world
        while True:
            batch = [(yield world.history.get())]
            if len(world.history.items) < INDEX_BATCH - 1:
                yield world.env.timeout(INDEX_BATCH_SECONDS)
            while world.history.items and len(batch) < INDEX_BATCH:
                batch.append((yield world.history.get()))
            since = world.start_work()
            yield world.env.timeout(len(batch) * world.site.dashboard_cpu(world.job) / world.job.events)
            yield world.request(Cost(table=1, rows=len(batch)), world.partition)
            yield world.request(Cost(table=1, rows=len({task for _, task in batch})))
            yield world.request(Cost(table=1, rows=1))
            world.spend(INDEX, world.work_since(since))
            world.spend(FEED, len(batch) / world.site.partition)
            world.figures.indexed += len(batch)
