"""What every benchmark does with processes: wait for them, and count what they take."""

import contextlib
import os
import re
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

BENCH = Path(__file__).parent
BIN = Path(sys.executable).parent
_TICKS = os.sysconf("SC_CLK_TCK")
_SAMPLE = re.compile(r"^(\w+)(\{.*\})? (\S+)$", re.MULTILINE)


def attempts(seconds: float, what: str) -> Iterator[None]:
    """Goes round until the loop is left. Raises `SystemExit`, with what was waited for, after so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
    raise SystemExit(f"not within {seconds:.0f} s: {what}")


def family(*roots: int) -> dict[int, list[str]]:
    """Living processes and all that descend from them, with the kernel's fields about each from its state on."""
    stats: dict[int, list[str]] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with contextlib.suppress(OSError):
                stats[int(path.name)] = (path / "stat").read_text().rsplit(")", 1)[1].split()
    members = set(roots)
    while grown := {pid for pid, fields in stats.items() if int(fields[1]) in members} - members:
        members |= grown
    return {pid: stats[pid] for pid in members & stats.keys()}


def cpu_seconds(*roots: int) -> float:
    """User and system time so far of living processes and all that descend from them."""
    return sum(int(fields[11]) + int(fields[12]) for fields in family(*roots).values()) / _TICKS


def memory(pids: Iterable[int]) -> dict[str, float]:
    """MiB that processes hold together: `Rss`, what is resident; `Pss`, with each shared page's share only."""
    found: Counter[str] = Counter()
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, kib, _ = line.split()
            found[name.rstrip(":")] += int(kib)
    return {name: found[name] / 1024 for name in ("Rss", "Pss")}


def metrics(port: int) -> Counter[str]:
    """What a program exports: each sample by its name with its labels, and their sum by the name alone."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        found: Counter[str] = Counter()
        for name, labels, value in _SAMPLE.findall(answer.read().decode()):
            for key in {name, name + labels}:
                found[key] += float(value)  # type: ignore[assignment] # a Counter of anything that adds up
        return found
