"""The operator: decides what may run now, hands it to the broker, and reflects what happens into the resources."""

from joblease import extras


def start() -> None:
    """Entry point."""
    extras.run("joblease_operator.main", "operator")
