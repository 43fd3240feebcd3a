"""The clock of deadlines.

`time.monotonic` stands still while the machine sleeps or a virtual machine is paused; the clock of the storage that
grants leases does not. CLOCK_BOOTTIME goes on (clock_gettime(2)). It is one clock for all processes of a machine, so
that a deadline can be told to another one.
"""

import time


def boot_seconds() -> float:
    """Seconds since this machine's start, sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
