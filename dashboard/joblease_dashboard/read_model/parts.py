"""Transactions have a greatest size."""

from collections.abc import Sequence
from typing import TypeVar

from joblease.transactions import MAX_WRITES

T = TypeVar("T")


def parts(items: Sequence[T]) -> list[Sequence[T]]:
    """The items in parts, each of which fits into a transaction."""
    return [items[at : at + MAX_WRITES] for at in range(0, len(items), MAX_WRITES)]
