"""Several requests at once, for whoever goes on after an error.

`asyncio.gather` and `TaskGroup` forget a cancellation that comes in the moment in which one of their tasks has failed
(python/cpython issue 116720): the error is raised in its place. A program that waits out such errors would not end when
it is asked to.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def together(*works: Coroutine[Any, Any, T]) -> list[T]:
    """The results, in order. Raises the first error found, when all others have been cancelled and have ended."""
    if not works:
        return []
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    errors = [result for result in results if isinstance(result, BaseException)]
    for error in [*(each for each in errors if isinstance(each, Exception)), *errors]:
        raise error
    return [result for result in results if not isinstance(result, BaseException)]
