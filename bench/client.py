"""How many milliseconds a program waits that submits a job with `joblease.client`: `make bench-client`.

Submitted to started: an idle installation, one job at a time, from the call to the time that the worker has written.
Cold: a fresh interpreter imports the client, submits a job, and ends; beside it one that posts with httpx alone. Sent:
the same until all of the request has arrived, at a listener that does nothing else.
"""

import asyncio
import re
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence

from joblease.client import AsyncClient
from joblease.messages import Status
from jobs import open_jobs
from parts import DASHBOARD_PORT, installation
from report import Report, Row, arguments, at_most, percentile, spread

JOBS, COLD = 30, 10
URL = f"http://127.0.0.1:{DASHBOARD_PORT}"
JOB = {"steps": 1, "seconds": 0}
STARTED, SENT, OURS, HTTPX, BARE = (
    "submitted to started", "cold: joblease.client, sent", "cold: joblease.client", "cold: httpx",
    "cold: an empty program",
)  # fmt: skip
SUBMIT = f"from joblease.client import Client\nClient('http://127.0.0.1:%d').submit('demo', {JOB})"
PROGRAMS = {
    OURS: SUBMIT % DASHBOARD_PORT,
    HTTPX: f"import httpx\nspec = {{'handler': 'demo', 'parameters': {JOB}}}\nhttpx.post('{URL}/api/requests',"
    f" json={{'spec': spec}}, headers={{'Origin': '{URL}'}}).raise_for_status()",
    BARE: "",
}
ANSWER = (
    b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
    b'{"jobId": "1", "namespace": "default", "name": "demo-1", "handler": "demo"}'
)
PATIENCE_SECONDS = 10.0


async def measure(jobs: int, cold: int, rounds: int) -> Report:
    """All of it, on an installation of its own."""
    waits: list[list[float]] = []
    starts: dict[str, list[float]] = defaultdict(list)
    with installation("client") as (_, folder):
        async with open_jobs(folder) as seen, AsyncClient(URL) as client:

            async def started() -> float:
                began = time.time()
                job = await client.submit("demo", JOB)
                event = await seen.event(job.job_id, lambda event: event.status == Status.STARTED, 30)
                return 1000 * (event.timestamp.timestamp() - began)

            for number in range(rounds + 1):  # the first warms up
                found = [await started() for _ in range(jobs)]
                spent = {SENT: [_send() for _ in range(cold)]}
                spent |= {what: [_run(program) for _ in range(cold)] for what, program in PROGRAMS.items()}
                if number:
                    waits.append(found)
                    for what, each in spent.items():
                        starts[what].append(percentile(each, 0.5))
                print(f"  round {number}: p50 {percentile(found, 0.5):.0f} ms", flush=True)
    return report(waits, starts, jobs, cold)


def _run(program: str) -> float:
    """Milliseconds from the start of an interpreter to its end."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", program], check=True)
    return 1000 * (time.monotonic() - began)


def _send() -> float:
    """Milliseconds from the start of an interpreter until its request has arrived."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE_SECONDS)
        began = time.monotonic()
        with subprocess.Popen([sys.executable, "-c", SUBMIT % listener.getsockname()[1]]) as process:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(PATIENCE_SECONDS)
                request = b""
                while not _is_whole(request):
                    request += connection.recv(65_536)
                took = time.monotonic() - began
                connection.sendall(ANSWER)
            if process.wait(PATIENCE_SECONDS):
                raise SystemExit("the client did not take the answer")
    return 1000 * took


def _is_whole(request: bytes) -> bool:
    head, end, body = request.partition(b"\r\n\r\n")
    length = re.search(rb"(?im)^content-length: (\d+)", head)
    return bool(end) and len(body) == int(length[1] if length else 0)


def report(waits: Sequence[Sequence[float]], starts: Mapping[str, Sequence[float]], jobs: int, cold: int) -> Report:
    """The figures as a table."""
    started = spread(percentile(each, 0.5) for each in waits)
    cells: list[Row] = [{"": what, "p50 ms": spread(each)} for what, each in starts.items()]
    rows: list[Row] = [
        {"": STARTED, "p50 ms": started, "p95 ms": spread(percentile(each, 0.95) for each in waits)},
        *cells,
    ]
    return Report(
        name="client",
        question="Milliseconds that a program waits which submits a job with the client.",
        rounds=len(waits),
        rows=rows,
        targets=[
            at_most("submitted to started, p50", 80, started, "ms"),
            at_most("import and send from a cold interpreter", 200, spread(starts[SENT]), "ms"),
        ],
        notes=[
            f"{jobs} jobs a round, each submitted when the one before it has started, on an idle installation.",
            f"Cold: {cold} interpreters a round, each from its start to its end, the dashboard's answer included.",
            "Sent: from an interpreter's start until the whole request has arrived.",
        ],
    )


def main() -> None:
    options = arguments(__doc__, rounds=5)
    less = 5 if options.quick else 1
    asyncio.run(measure(JOBS // less, COLD // less, options.rounds)).publish(options.write)


if __name__ == "__main__":
    main()
