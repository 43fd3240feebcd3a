"""Storage requests wait for no other process."""

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

LOCK = Path("/var/lib/libuuid/clock.txt")


def test_a_stopped_process_that_holds_libuuids_lock_stops_nobody() -> None:
    subprocess.run([sys.executable, "-c", "import uuid; uuid.uuid1()"], check=True, timeout=10)  # makes the file
    if not LOCK.exists():
        pytest.skip("libuuid keeps no clock file here: not root, or another library")
    with LOCK.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fcntl.lockf(lock, fcntl.LOCK_SH)
        program = "import joblease.storage, uuid; print(uuid.uuid1())"
        subprocess.run([sys.executable, "-c", program], check=True, timeout=20, stdout=subprocess.DEVNULL)
