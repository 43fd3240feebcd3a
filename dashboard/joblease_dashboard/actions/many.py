"""The same done to many, a bounded number at a time; one that fails keeps no other from it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from joblease_dashboard.problems import Problem

log = logging.getLogger(__name__)

AT_ONCE = 32
"""Requests to the API server for all that is done to many jobs, together: others find connections, too."""
T = TypeVar("T")
S = TypeVar("S")


class Many:
    """Does the same to many, a bounded number at a time of all that is done to many."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def each(self, items: Iterable[T], work: Callable[[T], Awaitable[S]]) -> list[S | Problem]:
        """What came of each, in their order: a result, or why there is none."""
        found: dict[int, S | Problem] = {}
        rest = enumerate(items)

        async def go_on() -> None:
            for place, item in rest:
                async with self._turns:
                    try:
                        found[place] = await work(item)
                    except Problem as problem:
                        found[place] = problem
                    except Exception:
                        log.exception("one of many failed")
                        found[place] = Problem(500, "Internal error", "something went wrong here; see the log")

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(go_on())
        return [found[place] for place in sorted(found)]
