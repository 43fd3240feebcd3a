"""What survives long looks of the garbage collector is not looked at again."""

import gc
from collections.abc import Iterator

import pytest
from joblease_operator import collector as module
from joblease_operator.collector import Collector


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    monkeypatch.setattr(module, "LONG_SECONDS", 0)
    made = Collector()
    made.install()
    yield made
    made.remove()
    gc.unfreeze()


def test_survivors_are_set_apart_and_still_freed(collector: Collector) -> None:
    gc.collect()
    before = gc.get_freeze_count()
    many = [[number] for number in range(100_000)]
    gc.collect()
    assert gc.get_freeze_count() - before >= 99_000
    del many
    assert gc.get_freeze_count() - before < 1_000


def test_short_looks_leave_everything_as_it_is(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONG_SECONDS", 60)
    before = gc.get_freeze_count()
    many = [[number] for number in range(1_000)]
    gc.collect()
    assert gc.get_freeze_count() <= before
    assert len(many) == 1_000


def test_no_look_meets_very_many_new_objects(collector: Collector) -> None:
    met: list[int] = []

    def look(phase: str, info: dict[str, int]) -> None:
        if phase == "start" and info["generation"] == module.OLDEST:
            met.append(sum(len(gc.get_objects(generation)) for generation in range(3)))

    gc.collect()
    gc.callbacks.append(look)
    try:
        many = [[number] for number in range(300_000)]
    finally:
        gc.callbacks.remove(look)
    assert len(met) >= 3
    assert max(met) < 50_000
    assert len(many) == 300_000
