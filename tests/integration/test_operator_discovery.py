"""The operator beside an API server that has just been started, which serves JobRequests before it lists them.

kopf looks once which resources there are: an operator that began in that moment watched nothing, and led.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from support.cluster import Cluster
from support.hiding_proxy import HidingProxy
from support.programs import Program

Start = Callable[..., AbstractAsyncContextManager[Program]]


async def test_an_operator_waits_until_the_api_server_lists_the_resource(
    operator_kubeconfig: Path, start_operator: Start, cluster: Cluster, kube_namespace: str, tmp_path: Path
) -> None:
    proxy = HidingProxy(lambda _: True)

    async def show() -> None:
        log = tmp_path / "operator.log"
        while not log.exists() or "JobRequests cannot be read yet: the API server does not list" not in log.read_text():
            await asyncio.sleep(0.1)
        proxy.hides = lambda _: False

    async with proxy.before(operator_kubeconfig, tmp_path) as kubeconfig, asyncio.TaskGroup() as tasks:
        tasks.create_task(show())
        async with start_operator(KUBECONFIG=str(kubeconfig)):
            await cluster.reaches(cluster.create(queue="nobody-serves-this"), "Queued")
    assert proxy.hidden


async def test_an_operator_that_could_not_watch_starts_anew(
    operator_kubeconfig: Path, start_operator: Start, tmp_path: Path
) -> None:
    """As with several API servers, of which kopf asks another one."""
    proxy = HidingProxy(lambda headers: headers.get("User-Agent", "").startswith("kopf"))
    async with proxy.before(operator_kubeconfig, tmp_path) as kubeconfig:
        with pytest.raises(AssertionError, match="kopf does not find JobRequests among the API server's resources"):
            async with start_operator(KUBECONFIG=str(kubeconfig)):
                await asyncio.sleep(60)  # it is ready, and ends later, or not at all
    assert proxy.hidden == 1
