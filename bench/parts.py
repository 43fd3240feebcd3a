"""The parts and programs that a benchmark runs on: its own, fresh, and ended with it."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from joblease_local.settings import LocalSettings
from joblease_local.stack import Stack

FIRST_PORT = 23800
"""Far from those of `make up`, so that both can run on one machine; benchmarks run one at a time."""
DASHBOARD_PORT = FIRST_PORT + 99


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
    shutil.rmtree(settings.folder, ignore_errors=True)
    settings.folder.mkdir(parents=True)
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
