"""A dashboard with jobs of two namespaces, for tests that attack it."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from joblease.states import State
from joblease_local.control_plane import ControlPlane
from joblease_local.manifests import apply

from support.accounts import account, program_kubeconfig
from support.attack import Dashboard
from support.history import History
from support.jobs import open_jobs
from support.programs import program

VERBS = ("get", "list", "watch", "create", "patch")
HUSH = "hush"
"""Is in everything of the other namespace."""
EVIL = """<script>alert(1)</script>"'><img src=x onerror=alert(2)>"""


def variables(api_server: ControlPlane, amqp_url: str, storage: str, folder: Path) -> dict[str, str]:
    """The dashboard's environment; it runs with the rights of its manifest."""
    return {
        "KUBECONFIG": str(program_kubeconfig(api_server, "dashboard", folder)),
        "JOBLEASE_AMQP_URL": amqp_url,
        "JOBLEASE_STORAGE_CONNECTION_STRING": storage,
        "JOBLEASE_DASHBOARD_ACCESS": "kubernetes",
        "JOBLEASE_DASHBOARD_SESSION_KEY": "k" * 32,
        "JOBLEASE_DASHBOARD_HEARTBEAT_SECONDS": "0.5",
        "JOBLEASE_DASHBOARD_TRUSTED_PROXIES": '["127.0.0.0/8"]',
        "JOBLEASE_DASHBOARD_REQUESTS_PER_SECOND": "10000",
    }


@asynccontextmanager
async def dashboard_of_two(
    api_server: ControlPlane, crd: Path, amqp_url: str, storage: str, folder: Path
) -> AsyncIterator[Dashboard]:
    """A dashboard in mode `kubernetes`, a failed job in each of two namespaces, HUSH and EVIL in all of them."""
    own, other = f"own-{secrets.token_hex(4)}", f"{HUSH}-{secrets.token_hex(4)}"
    for name in (own, other):
        apply(crd, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    environment = variables(api_server, amqp_url, storage, folder)
    async with (
        open_jobs(amqp_url, storage) as jobs,
        program("joblease-dashboard", environment, folder / "log") as running,
    ):
        mine = History(jobs, EVIL, namespace=own, handler=EVIL, queue=EVIL, group=EVIL)
        await told(mine, EVIL)
        foreign = History(jobs, f"{HUSH}-job", namespace=other, handler=HUSH, queue=HUSH, group=HUSH)
        await told(foreign, HUSH)
        yield Dashboard(
            running, jobs, environment, own, other, mine.job_id, foreign.job_id,
            account(api_server, folder, own, "mallory", VERBS),
            account(api_server, folder, own, "citizen", VERBS),
            account(api_server, folder, own, "admin", VERBS, everywhere=True),
        )  # fmt: skip


async def told(history: History, word: str) -> None:
    """A job that has failed, with this word in everything."""
    data = {"handler": word, "queue": word, "description": word, "parameters": {word: word}}
    await history.happen("Submitted", State.SUBMITTED, data=data)
    await history.happen("Started", State.RUNNING, worker=word)
    await history.happen("Step 1", State.RUNNING, message=word, data={word: word})
    await history.happen("Failed", State.FAILED, message=word, data={"error": word, "traceback": word})
