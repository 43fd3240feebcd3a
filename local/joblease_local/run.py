"""`up`: starts everything, says what happens meanwhile, and looks after it until it is told to stop."""

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path

from joblease_local.processes import PartFailed, Say, end_leftovers, forget, record, recorded, records
from joblease_local.settings import LocalSettings
from joblease_local.stack import Stack
from joblease_local.supervisor import Supervisor

ITSELF = "up"
"""The name under which the process that looks after all others is recorded."""
LOOK_SECONDS = 0.05


def ready_file(state: Path) -> Path:
    """A file that exists while everything runs."""
    return state / "run" / "ready"


def up(settings: LocalSettings, say: Say, *, programs: bool) -> None:
    """Start everything and look after it. Raises `PartFailed` when something cannot be started."""
    state = settings.folder
    running = recorded(state)
    if ITSELF in running:
        raise PartFailed(f"JobLease runs here already (process {running[ITSELF]}); 'make down' ends it.")
    end_leftovers(running, say)
    for each in records(state):
        forget(state, each.name)
    stack = Stack(settings, say)
    stack.require_ports(programs=programs)
    ready_file(state).unlink(missing_ok=True)
    record(state, ITSELF, os.getpid())
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # 'make down' is the same as Ctrl-C
    try:
        with contextlib.suppress(KeyboardInterrupt):
            _run(settings, stack, say, programs=programs)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # what follows is bounded, and must not be left half done
        ready_file(state).unlink(missing_ok=True)
        if any(part.running for part in (*stack.parts, *stack.programs)):
            say("Stopping…")
            stack.stop()
            say("Stopped. The data stays for the next 'make up'; 'make clean-local' deletes it.")
        forget(state, ITSELF)


def _run(settings: LocalSettings, stack: Stack, say: Say, *, programs: bool) -> None:
    stack.prepare()
    stack.start_parts()
    if programs:
        stack.start_programs()
    say(hints(settings, programs=programs, kubectl=shutil.which("kubectl") is not None))
    ready_file(settings.folder).touch()
    supervisor = Supervisor([*stack.parts, *stack.programs], say)
    while True:
        time.sleep(LOOK_SECONDS)
        supervisor.look(time.monotonic())


def hints(settings: LocalSettings, *, programs: bool, kubectl: bool) -> str:
    """Where everything is, and what to try."""
    state = os.path.relpath(settings.folder)
    end = f"Logs are in {state}/logs. Ctrl-C or 'make down' ends everything."
    if not programs:
        return f"\nThe parts run. To connect a program to them: . {state}/environment\n\n{end}\n"
    joblease = f"KUBECONFIG={state}/kubeconfig .venv/bin/joblease"
    if kubectl:
        commands = [
            f"kubectl --kubeconfig {state}/kubeconfig apply -f manifests/samples/demo.yaml",
            f"kubectl --kubeconfig {state}/kubeconfig get jr -w",
            f"{joblease} submit demo --follow",
        ]
    else:
        commands = [f"{joblease} submit demo --follow", f"{joblease} list", f"{joblease} publish"]
    lines = ["", f"JobLease runs: http://127.0.0.1:{settings.dashboard_port}", "", "To try it, in another terminal:"]
    return "\n".join([*lines, *(f"  {command}" for command in commands), "", end, ""])
