"""The command line: `joblease`, also as `kubectl joblease`."""

from joblease import extras


def start() -> None:
    """Entry point."""
    extras.run("joblease_cli.main", "cli")


def complete() -> None:
    """Entry point of `kubectl_complete-joblease`, which kubectl asks for words."""
    extras.run("joblease_cli.main", "cli", "complete_for_kubectl")
