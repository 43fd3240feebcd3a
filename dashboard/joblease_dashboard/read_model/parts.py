"""Transactions: their greatest size, and what a refusal means."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from joblease.transactions import MAX_WRITES

if TYPE_CHECKING:
    from azure.core.exceptions import HttpResponseError

T = TypeVar("T")
_NO_TABLE = ("TableNotFound", "TableBeingDeleted")


def parts(items: Sequence[T], size: int = MAX_WRITES) -> list[Sequence[T]]:
    """The items in parts, each of which fits into a transaction."""
    return [items[at : at + size] for at in range(0, len(items), size)]


def outdated(error: "HttpResponseError") -> bool:
    """Whether a row is not as it was known: read it and decide anew. A table that is not there must be waited for."""
    return error.status_code in (404, 409, 412) and not any(word in str(error) for word in _NO_TABLE)
