"""`python -m joblease_local`: JobLease on this machine, without containers; what `make up` and `make down` call."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time

from joblease.settings import describe, load

from joblease_local.processes import PartFailed, end_leftovers, recorded, records, started_at
from joblease_local.run import ITSELF, ready_file, up
from joblease_local.settings import LocalSettings
from joblease_local.stack import Stack
from joblease_local.supervisor import TRUSTED_SECONDS

FETCHED = frozenset({"azurite", "azurite.lock", "bin", "bin.lock", "oidc-provider", "oidc-provider.lock", "uv"})
"""What `clean` leaves in the state folder: it holds no data, and takes long to get."""
DOWN_SECONDS = 90


def say(text: str) -> None:
    """Print a line of progress at once, whoever reads it."""
    print(text, flush=True)


def up_detached(settings: LocalSettings, *, programs: bool) -> int:
    """Start everything in the background and show what it says until it is ready. The exit code."""
    state = settings.folder
    if ITSELF in recorded(state):
        raise PartFailed("JobLease runs here already; 'make down' ends it.")
    ready_file(state).unlink(missing_ok=True)
    log = state / "logs" / f"{ITSELF}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "joblease_local", "up", *([] if programs else ["--parts-only"])]
    with log.open("wb") as output, log.open() as shown:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        try:
            while child.poll() is None and not ready_file(state).exists():
                time.sleep(0.1)
                print(shown.read(), end="", flush=True)
        except KeyboardInterrupt:
            child.terminate()
            child.wait(DOWN_SECONDS)
        print(shown.read(), end="", flush=True)
    return child.returncode or 0


def down(settings: LocalSettings) -> int:
    """End all that `up` started. The exit code."""
    running = recorded(settings.folder)
    if not running:
        say("Nothing of JobLease runs here.")
    supervisor = running.pop(ITSELF, None)
    if supervisor is not None:
        say("Stopping…")
        os.kill(supervisor, signal.SIGTERM)
        deadline, identity = time.monotonic() + DOWN_SECONDS, started_at(supervisor)
        while identity and started_at(supervisor) == identity and time.monotonic() < deadline:
            time.sleep(0.1)
    end_leftovers(recorded(settings.folder), say)
    left = recorded(settings.folder)
    if left:
        raise PartFailed(f"these do not end: {left}")
    if running or supervisor:
        say("Stopped. The data stays for the next 'make up'; 'make clean-local' deletes it.")
    return 0


def status(settings: LocalSettings) -> int:
    """Say what runs. The exit code: 0 when everything is ready, and nothing has ended by itself within a minute."""
    found = records(settings.folder)
    if not any(each.name == ITSELF and each.lives for each in found):
        for each in found:
            if each.lives:
                say(f"{each.name:<20} process {each.pid}, left over; 'make down' ends it")
        say("JobLease does not run here.")
        return 1
    failing = False
    for each in found:
        text = f"process {each.pid}" if each.lives else "has ended by itself and is started again"
        if each.name != ITSELF and (not each.lives or (each.starts > 1 and each.seconds < TRUSTED_SECONDS)):
            failing = True
            text += f"; started {each.starts} times, see {settings.folder / 'logs' / each.name}.log"
        say(f"{each.name:<20} {text}")
    if not ready_file(settings.folder).exists():
        say("It is starting.")
        return 1
    return int(failing)


def clean(settings: LocalSettings, *, everything: bool) -> int:
    """Delete the data, or with `everything` also what was fetched and built. The exit code."""
    if recorded(settings.folder):
        raise PartFailed("JobLease runs here; end it first with 'make down'.")
    for path in settings.folder.iterdir() if settings.folder.exists() else ():
        if everything or path.name not in FETCHED:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
    say(f"{settings.folder}: {'everything' if everything else 'all data'} deleted.")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m joblease_local",
        description="JobLease on this machine, without containers: a Kubernetes API server, RabbitMQ, a storage "
        "emulator, and JobLease's own programs.",
        epilog=f"{describe(LocalSettings)}\n\nJOBLEASE_AMQP_URL and JOBLEASE_STORAGE_CONNECTION_STRING name a broker "
        "and a storage account to use\ninstead of own ones; KUBEBUILDER_ASSETS a folder with etcd and kube-apiserver.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    start = commands.add_parser("up", help="start everything; Ctrl-C or 'down' ends it")
    start.add_argument("--detach", action="store_true", help="return when everything is ready")
    start.add_argument("--parts-only", action="store_true", help="without operator, workers and dashboard")
    commands.add_parser("prepare", help="fetch or build what 'up' and the tests need; start nothing")
    commands.add_parser("down", help="end everything that 'up' started")
    commands.add_parser("status", help="say what runs; exit code 0 when everything is ready")
    forgetting = commands.add_parser("clean", help="delete all data")
    forgetting.add_argument("--all", action="store_true", help="also what was fetched and built")
    return parser


def main() -> int:
    """Run one command. The exit code."""
    arguments = _parser().parse_args()
    settings = load(LocalSettings)
    try:
        match arguments.command:
            case "up" if arguments.detach:
                return up_detached(settings, programs=not arguments.parts_only)
            case "up":
                up(settings, say, programs=not arguments.parts_only)
            case "prepare":
                Stack(settings, say).prepare()
            case "down":
                return down(settings)
            case "status":
                return status(settings)
            case "clean":
                return clean(settings, everything=arguments.all)
    except PartFailed as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0
