"""What survives long looks of the garbage collector is not looked at again."""

import gc
from collections.abc import Iterator

import pytest
from joblease_operator.collector import Collector


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    made.install()
    yield made
    made.remove()
    gc.unfreeze()


def test_many_survivors_are_set_apart_and_still_freed(collector: Collector) -> None:
    before = gc.get_freeze_count()
    many = [[number] for number in range(500_000)]
    gc.collect()
    apart = gc.get_freeze_count() - before
    assert apart >= 400_000  # of the last few, a look took no time
    del many
    assert gc.get_freeze_count() - before < apart - 350_000
