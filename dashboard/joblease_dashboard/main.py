"""`joblease-dashboard`: serve the pages and the API, or rebuild the read model from the trail."""

import asyncio
import logging
import resource
import signal
import sys

from joblease import logs
from joblease.limits import allow_depth_of_api_server
from joblease.metrics import set_build_info
from joblease.settings import argument_parser, load
from joblease.storage import Storage

from joblease_dashboard.read_model.rebuild import rebuild
from joblease_dashboard.server import serve
from joblease_dashboard.settings import LOOPBACK, DashboardSettings

log = logging.getLogger(__name__)


def main() -> None:
    """Entry point of `joblease-dashboard`."""
    parser = argument_parser(DashboardSettings, "joblease-dashboard", "Show what happens to jobs, and what happened.")
    parser.add_argument(
        "command", nargs="?", choices=("serve", "rebuild"), default="serve",
        help="serve (the default), or rebuild JobIndex, JobFeed and JobStats from the audit trail",
    )  # fmt: skip
    arguments = parser.parse_args()
    settings = load(DashboardSettings)
    logs.configure(settings, "dashboard")
    set_build_info("dashboard")
    allow_depth_of_api_server()
    if arguments.command == "rebuild":
        sys.stdout.write(f"{asyncio.run(_rebuild(settings))} jobs are in the read model\n")
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


async def _rebuild(settings: DashboardSettings) -> int:
    async with Storage(settings) as storage:
        return await rebuild(storage)
