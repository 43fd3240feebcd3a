"""The programs of an installation, and who replaces the dead."""

from simulation.programs import RunningDashboard, RunningOperator, RunningWorker, Services

Running = RunningOperator | RunningWorker | RunningDashboard


class Fleet:
    """`wanted` workers, an operator and a dashboard, or more for a while."""

    def __init__(self, services: Services, workers: int) -> None:
        self._services = services
        self._started = 0
        self._workers = workers
        self.wanted = workers
        self.operators: list[RunningOperator] = []
        self.workers: list[RunningWorker] = []
        self.dashboards: list[RunningDashboard] = []
        self.fill()

    @property
    def programs(self) -> list[Running]:
        """All of them."""
        return [*self.workers, *self.operators, *self.dashboards]

    def add_operator(self) -> None:
        """A new pod."""
        self._started += 1
        self.operators.append(RunningOperator(self._services, f"operator-{self._started}", self._started))

    def add_dashboard(self) -> None:
        """A new pod."""
        self._started += 1
        self.dashboards.append(RunningDashboard(self._services, f"dashboard-{self._started}", self._started))

    def add_worker(self, name: str = "", identity: str = "") -> None:
        """A new pod, perhaps under an old name; with an old identity, a container that is started again in its pod."""
        self._started += 1
        concurrency = self._services.dice.choice([1, 1, 2])
        name, identity = name or f"worker-{self._started}", identity or f"pod-{self._started}"
        self.workers.append(RunningWorker(self._services, name, identity, concurrency))

    def bury(self) -> None:
        """Forget those that have ended."""
        self.workers = [each for each in self.workers if each.program.alive]
        self.operators = [each for each in self.operators if each.program.alive]
        self.dashboards = [each for each in self.dashboards if each.program.alive]
        self._services.loop.forget_the_dead()

    def fill(self) -> None:
        """Start what is missing."""
        self.bury()
        if not self.operators:
            self.add_operator()
        if not self.dashboards:
            self.add_dashboard()
        while len(self.workers) < self.wanted:
            self.add_worker()

    def heal(self) -> None:
        """Have everything run again."""
        self._services.network.cut.clear()
        self._services.broker.alarm = False
        for program in self._services.loop.programs:
            program.stops = 0
        self.bury()
        for operator in self.operators[:-1]:
            operator.kill()
        self.wanted = self._workers
        self.fill()
