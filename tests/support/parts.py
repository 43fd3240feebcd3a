"""What a test needs to run real parts: skipped with a reason on a laptop that lacks it, a failure in CI."""

import os
from collections.abc import Callable
from typing import TypeVar

import pytest
from joblease_local.processes import PartFailed
from joblease_local.settings import LocalSettings

T = TypeVar("T")
CACHE = LocalSettings().folder
"""Where what was downloaded or built once is kept."""


def say(text: str) -> None:
    print(text, flush=True)


def need(prepare: Callable[[], T]) -> T:
    """A part, or a reason to skip; without it CI fails."""
    try:
        return prepare()
    except PartFailed as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
