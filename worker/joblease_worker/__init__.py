"""The worker: takes admitted jobs, and runs each under a lease, a fence and in a process of its own."""

from joblease import extras


def start() -> None:
    """Entry point."""
    extras.run("joblease_worker.main", "worker")
