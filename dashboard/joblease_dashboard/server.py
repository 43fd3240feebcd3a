"""The program that serves: opens the connections, and runs until SIGTERM or SIGINT."""

import asyncio
import contextlib
import logging
import sys
from contextlib import AsyncExitStack
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn
from joblease import topology
from joblease.broker import Broker
from joblease.listening import listening
from joblease.probes import Probes
from joblease.storage import Storage
from kubernetes.aio.config import ConfigException

from joblease_dashboard.access.cluster import Cluster
from joblease_dashboard.app import application
from joblease_dashboard.assembly import assemble
from joblease_dashboard.background import Background
from joblease_dashboard.connections import MAX_HEAD_BYTES, BoundedProtocol

if TYPE_CHECKING:
    from joblease_dashboard.live.streams import Streams
    from joblease_dashboard.settings import DashboardSettings

log = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """uvicorn waits for open connections when it ends, and a live stream never ends by itself: end those first."""

    def __init__(self, config: uvicorn.Config, streams: "Streams") -> None:
        super().__init__(config)
        self._streams = streams

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called for SIGTERM and SIGINT."""
        self.end()
        super().handle_exit(sig, frame)

    def end(self) -> None:
        """End, with all streams."""
        self._streams.stop()
        self.should_exit = True


async def serve(settings: "DashboardSettings") -> None:
    """Serve until SIGTERM or SIGINT."""
    async with AsyncExitStack() as stack:
        storage = await stack.enter_async_context(Storage(settings))
        broker = Broker(settings, "joblease-dashboard", topology.declare_exchanges)
        cluster = await _open_cluster(settings)
        if cluster:
            stack.push_async_callback(cluster.close)
        rooms = assemble(settings, storage, broker, cluster)
        background = Background(rooms, storage)
        probes = Probes(settings, background.problems, dead=broker.dead)
        stack.callback(probes.close)
        config = uvicorn.Config(
            application(rooms, settings.dashboard_base_path), http=BoundedProtocol, ws="none",
            h11_max_incomplete_event_size=MAX_HEAD_BYTES, log_config=None, access_log=False,
            timeout_graceful_shutdown=5, server_header=False, proxy_headers=False,
        )  # fmt: skip
        server = Server(config, rooms.streams)
        running = asyncio.create_task(background.run(), name="background")
        running.add_done_callback(lambda _: server.end())  # better none than half a dashboard
        try:
            with listening(settings.dashboard_host, settings.dashboard_port) as listener:
                await server.serve(sockets=[listener])
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running


async def _open_cluster(settings: "DashboardSettings") -> Cluster | None:
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
