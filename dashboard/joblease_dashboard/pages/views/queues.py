"""The pages about what jobs run on: workers, the leases that they hold, the broker's queues and dead letters."""

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from joblease_dashboard.actions import deadletters
from joblease_dashboard.live import locks, queues
from joblease_dashboard.problems import Problem
from joblease_dashboard.read_model.tokens import BadToken

if TYPE_CHECKING:
    from azure.storage.blob.aio import ContainerClient
    from joblease.broker import Broker

    from joblease_dashboard.access.access import Access
    from joblease_dashboard.live.board import Board
    from joblease_dashboard.live.workers import Workers
    from joblease_dashboard.pages.render import Renderer


class InfrastructurePages:
    """Answers for people who run JobLease. They take the right to list jobs of all namespaces."""

    def __init__(
        self,
        render: "Renderer",
        access: "Access",
        board: "Board",
        workers: "Workers",
        broker: "Broker",
        container: "ContainerClient",
        defer_seconds: int,
    ) -> None:
        self._render = render
        self._access = access
        self._board = board
        self._workers = workers
        self._broker = broker
        self._container = container
        self._defer_seconds = defer_seconds

    async def workers(self, request: Request) -> Response:
        """The workers."""
        await self._access.require(request, "list", "")
        found = self._workers.all()
        rows = [(each, [(id_, self._board.get(id_)) for id_ in each.report.jobs]) for each in found]
        living = [each.report for each in found if each.alive]
        return self._render.page(
            request, "workers.html", workers=rows, living=len(living),
            busy=sum(len(report.jobs) for report in living), room=sum(report.concurrency for report in living),
        )  # fmt: skip

    async def locks(self, request: Request) -> Response:
        """The leases that are held."""
        await self._access.require(request, "list", "")
        token = request.query_params.get("page_token")
        try:
            rows, following = await locks.held(self._container, self._workers, token)
        except BadToken as error:
            raise Problem(400, "Bad parameter", f"page_token: {error}", parameter="page_token") from None
        for row in rows:
            row["job"] = job = self._board.get(row["jobId"])
            row["since"] = (job or {}).get("startedAt") or row["since"]
        more = "/locks?" + urlencode({"page_token": following}) if following else None
        return self._render.page(request, "locks.html", locks=rows, more=more, first=not token)

    async def queues(self, request: Request) -> Response:
        """The broker's queues, and the dead letters."""
        await self._access.require(request, "list", "")
        pools = {"default"} | self._workers.queues() | self._board.queues()
        return self._render.page(
            request, "queues.html",
            queues=await queues.depths(self._broker, self._workers, pools, self._defer_seconds),
            letters=await deadletters.look(self._broker), shown=deadletters.MAX_SHOWN,
            may_replay=await self._access.allows(request, "patch", ""),
        )  # fmt: skip
