"""`joblease-operator`: waits until all that it needs is there, then lets kopf watch and the engine think."""

import asyncio
import logging
import os
import signal
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, NoReturn

import kopf
from joblease import logs, topology
from joblease.broker import Broker, Subscription
from joblease.keys import Keys
from joblease.leases import LeaseBlobs
from joblease.limits import allow_depth_of_api_server
from joblease.metrics import set_build_info
from joblease.probes import Probes
from joblease.settings import argument_parser, load
from joblease.storage import KEYS_TABLE, OPEN_TABLE, TRAIL_TABLE, Storage, once_storage_works
from joblease.trail import AuditTrail
from kopf._cogs.structs.references import Insights  # `kopf.operator` takes one, and kopf does not export it

from joblease_operator.collector import Collector
from joblease_operator.election import Election
from joblease_operator.engine import Engine
from joblease_operator.kube import JobRequests
from joblease_operator.lease import Lease
from joblease_operator.open_jobs import OpenJobs
from joblease_operator.settings import OperatorSettings
from joblease_operator.watch import watching

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel, AbstractQueue

log = logging.getLogger(__name__)

RETRY_SECONDS = 2.0
PREFETCH = 500


async def operate(settings: OperatorSettings) -> None:
    """Run until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        requests, lease = JobRequests(settings), Lease(settings)
        stack.push_async_callback(requests.close)
        stack.push_async_callback(lease.close)
        storage = await stack.enter_async_context(Storage(settings))
        broker = Broker(settings, "joblease-operator", topology.declare_readers, consuming=False)
        trail, open_jobs = AuditTrail(storage.table(TRAIL_TABLE)), OpenJobs(storage.table(OPEN_TABLE))
        keys, blobs = Keys(storage.table(KEYS_TABLE)), LeaseBlobs(storage.locks())
        engine = Engine(settings, broker, trail, blobs, requests, open_jobs, keys)
        election = Election(settings, lease, _end_at_once)

        async def events(channel: "AbstractChannel") -> "AbstractQueue":
            return await topology.declare_events(channel, "operator")

        async def reports(channel: "AbstractChannel") -> "AbstractQueue":
            return await topology.declare_private(channel, topology.WORKERS)

        # The leader hears the news, also while an earlier one that stands still is connected (consumer priority).
        broker.subscribe(
            Subscription(events, engine.on_event, PREFETCH, arguments=lambda: {"x-priority": election.term})
        )
        broker.subscribe(Subscription(reports, engine.policies.on_report, PREFETCH))
        starting = ["starting"]

        def problems() -> list[str]:
            of_leader = engine.problems if election.leads else []
            return [*starting, *of_leader, *filter(None, [election.problem, broker.problem])]

        probes = Probes(settings, problems, dead=broker.dead)
        stack.callback(probes.close)

        async def run() -> None:
            await requests.connect()
            await lease.connect()
            await _until_served(requests, starting)

            async def prepare() -> None:
                await storage.create_tables(TRAIL_TABLE, OPEN_TABLE, KEYS_TABLE)
                await storage.create_locks()

            await once_storage_works(prepare)
            starting.clear()
            await _watch_and_lead(settings, broker, engine, election)

        await _first(stop.wait(), run())


async def _watch_and_lead(settings: OperatorSettings, broker: Broker, engine: Engine, election: Election) -> None:
    """Watch from now on, and act when this operator leads."""
    ending = asyncio.Event()
    registry, kopf_settings = watching(engine, ending.set)
    namespaces = settings.operator_namespaces
    insights = Insights()
    watch = kopf.operator(  # it takes the signals over, and ends by them
        registry=registry,
        settings=kopf_settings,
        insights=insights,
        standalone=True,
        clusterwide=not namespaces,
        namespaces=namespaces,
    )

    async def act() -> None:
        await broker.start_consuming()  # first: what is written after a trail was read must be heard
        await engine.run()

    async def lead() -> None:
        try:
            await election.win()
            await _first(election.keep(), act())
        finally:
            await election.release()

    async def think() -> None:
        async with broker:
            await _first(ending.wait(), lead())

    async with asyncio.TaskGroup() as both:
        both.create_task(watch, name="watch")
        both.create_task(_see_resource(insights), name="resource")
        both.create_task(think(), name="engine")


async def _see_resource(insights: Insights) -> None:
    """End like a crash when kopf has not found the custom resource, which it looks for once: it would never watch."""
    await insights.ready_resources.wait()
    if not insights.watched_resources:
        log.error("kopf does not find JobRequests among the API server's resources: this operator starts anew")
        os._exit(1)


def _end_at_once(why: str) -> NoReturn:
    """Like a crash, which does no harm at any time: whatever ended in an orderly way would still be doing something."""
    log.error("%s: this operator does not lead any more, and starts anew", why)
    os._exit(1)


async def _first(*works: Coroutine[Any, Any, Any]) -> None:
    """Do all until one has ended, then end the others. Raises what the one raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


async def _until_served(requests: JobRequests, problems: list[str]) -> None:
    """Wait for the custom resource: kopf looks once which resources there are, and would never see a later one.

    (It could watch for new ones, but that takes the right to read all definitions of the cluster.)
    """
    while True:
        try:
            await requests.look()
        except Exception as error:  # noqa: BLE001 - whatever is away, it is waited for
            problems[:] = [f"JobRequests cannot be read yet: {getattr(error, 'reason', None) or error}"]
            log.warning("%s; next try in %.0f s", problems[0], RETRY_SECONDS)
            await asyncio.sleep(RETRY_SECONDS)
        else:
            problems[:] = ["starting"]
            return


def main() -> None:
    """Entry point of `joblease-operator`."""
    argument_parser(
        OperatorSettings, "joblease-operator", "Admit JobRequests, publish them, and reflect what happens to them."
    ).parse_args()
    settings = load(OperatorSettings)
    logs.configure(settings, "operator")
    set_build_info("operator")
    Collector().install()
    allow_depth_of_api_server()
    asyncio.run(operate(settings))
