"""How long to wait before the next attempt of a failed job.

Exponential, bounded, with jitter: jobs that failed together (a database was down) must not all come back together.
"""

import random
from datetime import timedelta
from typing import Protocol


class BackoffPolicy(Protocol):
    """`retry.backoff` of a job, in whichever model it travels."""

    @property
    def initial_seconds(self) -> float: ...  # noqa: D102
    @property
    def factor(self) -> float: ...  # noqa: D102
    @property
    def max_seconds(self) -> float: ...  # noqa: D102


JITTER = 0.2


def delay(policy: BackoffPolicy, failures: int, jitter: float | None = None) -> timedelta:
    """The pause after the given number of failures (1 for the first).

    The exact value is spread by ±20 %; `jitter` (-1 to 1) fixes where in that range it falls.
    """
    if failures < 1:
        raise ValueError(f"a pause follows at least one failure, not {failures}")
    spread = random.uniform(-1, 1) if jitter is None else jitter
    try:
        exact = min(policy.initial_seconds * policy.factor ** (failures - 1), policy.max_seconds)
    except OverflowError:
        exact = policy.max_seconds
    return timedelta(seconds=exact * (1 + JITTER * spread))
