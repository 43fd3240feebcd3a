"""Ends what a test run has started that was killed: it hears of that by the end of its standard input.

`python -m support.reaper FOLDER`: everything that is recorded below the folder, as `joblease_local.processes` does it.
"""

import sys
from pathlib import Path

from joblease_local.processes import end_leftovers, recorded

if __name__ == "__main__":
    sys.stdin.read()
    for run in Path(sys.argv[1]).rglob("run"):
        end_leftovers(recorded(run.parent), lambda _: None)  # who would have read it has gone as well
