"""The dashboard: history, details and live progress of all jobs, for people and for programs."""

from joblease import extras


def start() -> None:
    """Entry point."""
    extras.run("joblease_dashboard.main", "dashboard")
