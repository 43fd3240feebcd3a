from dataclasses import dataclass
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joblease.backoff import delay


@dataclass
class Policy:
    initial_seconds: float = 10
    factor: float = 2
    max_seconds: float = 600


@pytest.mark.parametrize(("failures", "seconds"), [(1, 10), (2, 20), (3, 40), (6, 320), (7, 600), (5_000, 600)])
def test_it_doubles_up_to_the_bound(failures: int, seconds: float) -> None:
    assert delay(Policy(), failures, jitter=0) == timedelta(seconds=seconds)


def test_jitter_spreads_by_a_fifth() -> None:
    assert delay(Policy(), 1, jitter=-1) == timedelta(seconds=8)
    assert delay(Policy(), 1, jitter=1) == timedelta(seconds=12)
    assert len({delay(Policy(), 1) for _ in range(20)}) > 1


@given(st.integers(1, 10_000), st.floats(0, 86_400), st.floats(1, 10), st.floats(-1, 1))
def test_it_never_leaves_its_bounds(failures: int, initial: float, factor: float, jitter: float) -> None:
    pause = delay(Policy(initial, factor, 86_400), failures, jitter).total_seconds()
    assert initial * 0.8 - 1e-6 <= pause <= 86_400 * 1.2 + 1e-6


def test_there_is_no_pause_before_the_first_failure() -> None:
    with pytest.raises(ValueError, match="at least one failure"):
        delay(Policy(), 0)
