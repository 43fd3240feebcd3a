"""The parts and programs that a benchmark runs on: its own, fresh, and ended with it."""

import os
import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from joblease.settings import AZURITE_CONNECTION_STRING
from joblease_local.azurite import Azurite, require_azurite
from joblease_local.processes import end_leftovers, recorded
from joblease_local.rabbitmq import RabbitMQ, require_rabbitmq
from joblease_local.settings import LocalSettings
from joblease_local.stack import Stack

FIRST_PORT = 23800
"""Far from those of `make up`, so that both can run on one machine; benchmarks run one at a time."""
DASHBOARD_PORT = FIRST_PORT + 99
PROBES_PORT = FIRST_PORT + 97
"""Of a dashboard that a benchmark starts by itself."""


def _begin(settings: LocalSettings) -> None:
    """An empty folder. What an earlier run left behind is ended, and this one ends its parts when it is terminated."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    end_leftovers(recorded(settings.folder), print)
    shutil.rmtree(settings.folder, ignore_errors=True)
    settings.folder.mkdir(parents=True)


@contextmanager
def installation(
    name: str, *, workers: int = 1, programs: bool = True, environment: Mapping[str, str] | None = None
) -> Iterator[Stack]:
    """A whole JobLease with empty stores; `programs=False` leaves operator, workers and dashboard out.

    `environment` are settings (`JOBLEASE_…`) of all programs; the kubeconfig is `folder(name) / "kubeconfig"`, and
    `Stack.environment` says where broker and storage are.
    """
    settings = LocalSettings(
        state=LocalSettings().folder / "bench" / name,
        workers=workers,
        first_port=FIRST_PORT,
        dashboard_port=DASHBOARD_PORT,
    )
    _begin(settings)
    for cache in ("bin", "azurite"):  # what was downloaded or built once serves all
        (settings.folder.parent.parent / cache).mkdir(exist_ok=True)
        (settings.folder / cache).symlink_to(settings.folder.parent.parent / cache)
    before = dict(os.environ)
    os.environ.update({"JOBLEASE_LOG_FORMAT": "json", **(environment or {})})
    stack = Stack(settings, lambda line: print(f"  {line}", flush=True))
    try:
        stack.prepare()
        stack.start_parts()
        if programs:
            stack.start_programs()
        yield stack
    finally:
        stack.stop()
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def broker_and_storage(name: str) -> Iterator[tuple[Path, dict[str, int]]]:
    """An empty RabbitMQ, and an Azurite that holds everything in memory.

    The environment says where they are, to us and to whatever we start. Gives a folder to work in, and the process ids
    of `rabbitmq` and `azurite`.
    """
    settings = LocalSettings(state=LocalSettings().folder / "bench" / name, first_port=FIRST_PORT)
    _begin(settings)
    ports = list(settings.ports().values())
    broker = RabbitMQ(require_rabbitmq(print), settings.folder, (ports[3], ports[4], ports[5]))
    account = dict(item.split("=", 1) for item in AZURITE_CONNECTION_STRING.rstrip(";").split(";"))
    storage = Azurite(
        require_azurite(LocalSettings().folder / "azurite", print),
        settings.folder,
        (ports[6], ports[7], ports[8]),
        {account["AccountName"]: account["AccountKey"]},
        durable=False,
    )
    before = dict(os.environ)
    try:
        for part in (broker, storage):
            part.start()
        for part in (broker, storage):
            part.ready()
        os.environ["JOBLEASE_AMQP_URL"] = broker.url
        os.environ["JOBLEASE_STORAGE_CONNECTION_STRING"] = storage.connection_string(account["AccountName"])
        yield settings.folder, recorded(settings.folder)
    finally:
        for part in (broker, storage):
            part.stop()
        os.environ.clear()
        os.environ.update(before)
