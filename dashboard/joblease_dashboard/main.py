"""`joblease-dashboard`: serve the pages and the API, or rebuild the read model from the trail."""

import asyncio
import contextlib
import logging
import resource
import secrets
import signal
import sys
from contextlib import AsyncExitStack
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn
from azure.core.exceptions import AzureError
from joblease import logs, topology
from joblease.broker import WORKERS, Broker, Subscription, newest_first
from joblease.limits import API_DEPTH
from joblease.metrics import announce
from joblease.settings import argument_parser, load
from joblease.storage import ACTIONS_TABLE, FEED_TABLE, INDEX_TABLE, STATS_TABLE, TRAIL_TABLE, Storage
from joblease.trail import AuditTrail
from kubernetes.aio.config import ConfigException

from joblease_dashboard.access.access import Access
from joblease_dashboard.access.cluster import Cluster
from joblease_dashboard.actions.actions import Actions
from joblease_dashboard.actions.record import Record
from joblease_dashboard.api.jobs import Api
from joblease_dashboard.app import application
from joblease_dashboard.live.board import Board
from joblease_dashboard.live.log import Log
from joblease_dashboard.live.streams import Streams
from joblease_dashboard.live.workers import Workers
from joblease_dashboard.pages.charts import Charts
from joblease_dashboard.pages.render import Renderer
from joblease_dashboard.pages.views.job import Pages
from joblease_dashboard.pages.views.queues import InfrastructurePages
from joblease_dashboard.pages.views.submit import Forms
from joblease_dashboard.read_model.indexer import Indexer
from joblease_dashboard.read_model.queries import TimeTable
from joblease_dashboard.read_model.rebuild import TABLES, rebuild
from joblease_dashboard.read_model.statistics import Stats
from joblease_dashboard.read_model.writer import Writer
from joblease_dashboard.settings import LOOPBACK, DashboardSettings

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel, AbstractQueue

log = logging.getLogger(__name__)

RETRY_SECONDS = 2.0
PREFETCH = 500


class Server(uvicorn.Server):
    """uvicorn waits for open connections when it ends, and a live stream never ends by itself: end those first."""

    def __init__(self, config: uvicorn.Config, live: Streams) -> None:
        super().__init__(config)
        self._live = live

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called for SIGTERM and SIGINT."""
        self.end()
        super().handle_exit(sig, frame)

    def end(self) -> None:
        """End, with all streams."""
        self._live.stop()
        self.should_exit = True


async def serve(settings: DashboardSettings) -> None:
    """Serve until SIGTERM or SIGINT."""
    async with AsyncExitStack() as stack:
        storage = await stack.enter_async_context(Storage(settings))
        index_table, feed_table = storage.table(INDEX_TABLE), storage.table(FEED_TABLE)
        trail = AuditTrail(storage.table(TRAIL_TABLE))
        feed, stats, workers = TimeTable(feed_table), Stats(storage.table(STATS_TABLE)), Workers()
        board = Board(workers)
        broker = Broker(settings, "joblease-dashboard", topology.declare_exchanges)
        events = Log(board, settings.dashboard_stream_buffer)
        live = Streams(events, broker, settings.dashboard_stream_clients, settings.dashboard_heartbeat_seconds)
        indexer = Indexer(Writer(storage.table, trail), broker)
        _subscribe(broker, indexer, events, workers)
        cluster = await _open_cluster(settings)
        if cluster:
            stack.push_async_callback(cluster.close)
        key = settings.dashboard_session_key
        access = Access(settings, cluster, key.get_secret_value() if key else secrets.token_urlsafe(32))
        api = Api(access, trail, TimeTable(index_table), feed, live, stats)
        actions = Actions(access, cluster, broker, trail, Record(storage.table(ACTIONS_TABLE)), board)
        render = Renderer(access, events.page_position)
        pages = Pages(render, api, access, actions, board, workers, Charts(stats))
        infrastructure = InfrastructurePages(
            render, access, board, workers, broker, storage.locks(), settings.defer_seconds
        )
        forms = Forms(render, api, access, actions, workers, broker)
        starting = ["the tables are not there yet"]
        app = application(
            access, api, pages, infrastructure, forms,
            problems=lambda: [*starting, *filter(None, [broker.problem])], dead=broker.dead,
        )  # fmt: skip
        config = uvicorn.Config(
            app, settings.dashboard_host, settings.dashboard_port, log_config=None, access_log=False,
            timeout_graceful_shutdown=5, server_header=False, proxy_headers=False,
        )  # fmt: skip
        server = Server(config, live)
        background = asyncio.create_task(_prepare(storage, broker, indexer, board, live, starting), name="index")
        background.add_done_callback(lambda _: server.end())  # better none than half a dashboard
        try:
            await server.serve()
        finally:
            background.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await background


async def _prepare(
    storage: Storage, broker: Broker, indexer: Indexer, board: Board, live: Streams, starting: list[str]
) -> None:
    await _create_tables(storage)
    starting.clear()
    async with broker:
        await asyncio.gather(indexer.run(), board.restore(storage.table(INDEX_TABLE)), live.run())


async def _open_cluster(settings: DashboardSettings) -> Cluster | None:
    """The API server, when there is one. Ends the program when access depends on it."""
    try:
        return await Cluster.open(settings.dashboard_api_timeout_seconds)
    except ConfigException as error:
        if settings.dashboard_access != "none":
            sys.exit(
                f"JOBLEASE_DASHBOARD_ACCESS={settings.dashboard_access} asks Kubernetes who may do what, and there is "
                f"neither a service account nor a kubeconfig (KUBECONFIG): {error}"
            )
        log.info("no Kubernetes here: jobs can be looked at, not submitted or changed")
        return None


async def _create_tables(storage: Storage) -> None:
    while True:
        try:
            await storage.create_tables(*TABLES, ACTIONS_TABLE)
            await storage.create_locks()
        except AzureError as error:
            log.warning("storage cannot be used yet, next try in %.0f s: %s", RETRY_SECONDS, error)
            await asyncio.sleep(RETRY_SECONDS)
        else:
            return


def _subscribe(broker: Broker, indexer: Indexer, events: Log, workers: Workers) -> None:
    async def index(channel: "AbstractChannel") -> "AbstractQueue":
        return await topology.declare_events(channel, "index")

    broker.subscribe(Subscription(index, indexer.on_event, PREFETCH, arguments=newest_first()))

    async def reports(channel: "AbstractChannel") -> "AbstractQueue":
        return await topology.declare_private(channel, WORKERS)

    broker.subscribe(Subscription(topology.declare_live, events.on_event, PREFETCH, arguments=events.position))
    broker.subscribe(Subscription(reports, workers.on_report, prefetch=PREFETCH))


def main() -> None:
    """Entry point of `joblease-dashboard`."""
    parser = argument_parser(DashboardSettings, "joblease-dashboard", "Show what happens to jobs, and what happened.")
    parser.add_argument(
        "command", nargs="?", choices=("serve", "rebuild"), default="serve",
        help="serve (the default), or rebuild JobIndex and JobFeed from the audit trail",
    )  # fmt: skip
    arguments = parser.parse_args()
    settings = load(DashboardSettings)
    logs.configure(settings, "dashboard")
    announce("dashboard")
    sys.setrecursionlimit(API_DEPTH + sys.getrecursionlimit())
    if arguments.command == "rebuild":
        sys.stdout.write(f"{asyncio.run(rebuild(settings))} jobs are in the read model\n")
        return
    if settings.dashboard_access == "none" and settings.dashboard_host not in LOOPBACK:
        where = f"{settings.dashboard_host}:{settings.dashboard_port}"
        log.warning("everybody who reaches %s can see and change all jobs", where)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each open stream is an open file
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # before uvicorn has taken it over
    try:
        asyncio.run(serve(settings))
    except KeyboardInterrupt:
        return
