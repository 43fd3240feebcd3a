"""The parts and programs that a benchmark runs on: its own, fresh, and ended with it."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pika
from joblease.settings import AZURITE_CONNECTION_STRING
from joblease_local.azurite import Azurite, require_azurite
from joblease_local.processes import end_leftovers, recorded
from joblease_local.program import Program
from joblease_local.rabbitmq import RabbitMQ, require_rabbitmq
from joblease_local.settings import LocalSettings
from joblease_local.stack import Stack
from pika.exceptions import ChannelClosedByBroker
from processes import BIN

FIRST_PORT = 23800
"""Far from those of `make up`, so that both can run on one machine; benchmarks run one at a time."""
DASHBOARD_PORT = FIRST_PORT + 99
PORTS = {"operator": FIRST_PORT + 9, "worker-1": FIRST_PORT + 10, "dashboard": FIRST_PORT + 11}
"""Where the programs export their metrics."""
BROKER, STORAGE = "JOBLEASE_AMQP_URL", "JOBLEASE_STORAGE_CONNECTION_STRING"


def _settings(name: str, workers: int = 1) -> LocalSettings:
    """Of an empty folder. What an earlier run left is ended, and this one ends its parts when it is terminated."""
    state = LocalSettings().folder / "bench" / name
    settings = LocalSettings(state=state, workers=workers, first_port=FIRST_PORT, dashboard_port=DASHBOARD_PORT)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    end_leftovers(recorded(settings.folder), print)
    shutil.rmtree(settings.folder, ignore_errors=True)
    settings.folder.mkdir(parents=True)
    return settings


@contextmanager
def environment(settings: Mapping[str, str] | None = None) -> Iterator[None]:
    """Add variables; at the end, the environment is what it was."""
    before = dict(os.environ)
    os.environ.update(settings or {})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def installation(
    name: str, *, workers: int = 1, programs: bool = True, variables: Mapping[str, str] | None = None
) -> Iterator[tuple[Stack, Path]]:
    """A whole JobLease with empty stores, and its folder; `programs=False` leaves operator, workers and dashboard out.

    `variables` are settings (`JOBLEASE_…`) of all programs. The environment says where broker and storage are.
    """
    settings = _settings(name, workers)
    for cache in ("bin", "azurite"):  # what was downloaded or built once serves all
        (settings.folder.parent.parent / cache).mkdir(exist_ok=True)
        (settings.folder / cache).symlink_to(settings.folder.parent.parent / cache)
    with environment({"JOBLEASE_LOG_FORMAT": "json", **(variables or {})}):
        stack = Stack(settings, lambda line: print(f"  {line}", flush=True))
        try:
            stack.prepare()
            stack.start_parts()
            if programs:
                stack.start_programs()
            os.environ |= {name: stack.environment[name] for name in (BROKER, STORAGE)}
            yield stack, settings.folder
        finally:
            stack.stop()


@contextmanager
def broker_and_storage(name: str) -> Iterator[tuple[Path, dict[str, int]]]:
    """An empty RabbitMQ, and an Azurite that holds everything in memory.

    The environment says where they are, to us and to whatever we start. Gives a folder to work in, and the process ids
    of `rabbitmq` and `azurite`.
    """
    settings = _settings(name)
    ports = list(settings.ports().values())
    broker = RabbitMQ(require_rabbitmq(print), settings.folder, (ports[3], ports[4], ports[5]))
    account = fields(AZURITE_CONNECTION_STRING)
    storage = Azurite(
        require_azurite(LocalSettings().folder / "azurite", print),
        settings.folder,
        (ports[6], ports[7], ports[8]),
        {account["AccountName"]: account["AccountKey"]},
        durable=False,
    )
    try:
        for part in (broker, storage):
            part.start()
        for part in (broker, storage):
            part.ready()
        with environment({BROKER: broker.url, STORAGE: storage.connection_string(account["AccountName"])}):
            yield settings.folder, recorded(settings.folder)
    finally:
        for part in (broker, storage):
            part.stop()


@contextmanager
def program(name: str, folder: Path, variables: Mapping[str, str]) -> Iterator[int]:
    """One of JobLease's programs, ready, beside the parts that the environment names. Gives its process id."""
    started = Program(BIN / f"joblease-{name}", name, folder, PORTS[name], variables)
    try:
        started.start()
        started.ready()
        yield recorded(folder)[name]
    finally:
        started.stop()


@contextmanager
def dashboard(folder: Path, more: Mapping[str, str] | None = None) -> Iterator[int]:
    """A fresh dashboard that refuses nobody for asking often, with `more` settings; its process id."""
    variables = {
        "JOBLEASE_DASHBOARD_PORT": str(DASHBOARD_PORT),
        "JOBLEASE_METRICS_PORT": str(PORTS["dashboard"]),
        "JOBLEASE_DASHBOARD_REQUESTS_PER_SECOND": "100000",
        "JOBLEASE_LOG_FORMAT": "json",
        **(more or {}),
    }
    with program("dashboard", folder, variables) as pid:
        yield pid


@contextmanager
def account_at(script: str, *arguments: str | Path, services: tuple[str, ...]) -> Iterator[int]:
    """A program that takes the place of some services of the storage account, and prints its port. Its process id."""
    process = subprocess.Popen([sys.executable, script, *arguments], stdout=subprocess.PIPE)
    with process:
        try:
            assert process.stdout  # noqa: S101 - we asked for a pipe
            account = fields(os.environ.get(STORAGE, AZURITE_CONNECTION_STRING))
            url = f"http://127.0.0.1:{int(process.stdout.readline())}/{account['AccountName']}"
            account |= {f"{service}Endpoint": url for service in services}
            with environment({STORAGE: "".join(f"{name}={value};" for name, value in account.items())}):
                yield process.pid
        finally:
            process.kill()


def fields(connection_string: str) -> dict[str, str]:
    """What a connection string says."""
    return dict(item.split("=", 1) for item in connection_string.rstrip(";").split(";"))


@contextmanager
def channel() -> Iterator[Any]:
    """A channel to the broker that the environment names."""
    with contextlib.closing(pika.BlockingConnection(pika.URLParameters(os.environ[BROKER]))) as broker:
        yield broker.channel()


def consumers(queue: str) -> int:
    """How many consumers a queue has; 0 when there is no such queue."""
    with channel() as broker:
        try:
            return int(broker.queue_declare(queue, passive=True).method.consumer_count)
        except ChannelClosedByBroker:
            return 0


def delete_queues(*queues: str) -> None:
    """Forget queues with what is in them."""
    with channel() as broker:
        for queue in queues:
            broker.queue_delete(queue)
