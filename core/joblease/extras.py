"""Starts a program whose dependencies are an extra of the distribution, and says which one when they are not there."""

import importlib
import sys

FAULT = 7
"""The exit code; of the command line's codes the one for its own faults."""
INTERRUPTED = 130


def run(module: str, extra: str, function: str = "main") -> None:
    """Run a function of a module of which nothing was imported yet."""
    program = sys.argv[0].rpartition("/")[2]
    try:
        start = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        sys.stderr.write(
            f"{program}: the Python package {error.name!r} is missing; "
            f"install what this program needs: pip install 'joblease[{extra}]'\n"
        )
        sys.exit(FAULT)
    except Exception as error:  # noqa: BLE001 - Python would end with 1, the code of a job that failed
        sys.stderr.write(f"{program}: cannot be started: {type(error).__name__}: {error}\n")
        sys.exit(FAULT)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    start()
