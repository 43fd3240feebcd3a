"""The cluster of `make kind`, ready before each test."""

import pytest
from e2e.cluster import rolled_out


@pytest.fixture(autouse=True)
def everything_ready() -> None:
    rolled_out()
