"""An installation in SimPy: operator, workers and dashboard, each request of theirs a wait of its own.

What is modelled is what can run out: the operator's one processor and what it does side by side, the workers, leases
that are held, the rates of partitions, blobs and the account, the dashboard's batches. Not modelled: networks, restarts
of the parts, and every fault but a lost worker. The same seed gives the same run.
"""

from costs import Job, Site

from queueing.dashboards import Dashboard
from queueing.operators import Operator
from queueing.workers import Workers
from queueing.world import Figures, Steps, Task, World


class Installation:
    """One installation, doing jobs of one kind in one group."""

    def __init__(self, site: Site, job: Job, limit: int = 0, seed: int = 1) -> None:
        """`limit`: how many may run at once; 0 for any number."""
        self._world = World(site, job, limit, seed)
        self._operator, self.workers = Operator(self._world), Workers(self._world)
        Dashboard(self._world)

    def submit(self) -> None:
        self._world.env.process(self._operator.begin(Task(self._world.env.now)))

    def keep(self, population: int) -> None:
        """Have so many jobs at any time: whenever one ends, another is submitted."""
        self._world.on_end = self.submit
        for _ in range(population):
            self.submit()

    def arrive(self, rate: float) -> None:
        """Submit jobs at random moments, so many a second."""

        def source() -> Steps:
            while True:
                yield self._world.env.timeout(self._world.chance(rate))
                self.submit()

        self._world.env.process(source())

    def run(self, seconds: float) -> Figures:
        """Go on for so long, and count from now on."""
        self._world.figures = Figures()
        self._world.env.run(self._world.env.now + seconds)
        return self._world.figures
