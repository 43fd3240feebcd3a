import pytest
from joblease.tracing import child_of, trace_id

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_child_keeps_the_trace_and_gets_a_span_of_its_own() -> None:
    child = child_of(PARENT)
    assert trace_id(child) == trace_id(PARENT)
    assert child != PARENT
    assert child.endswith("-01")


@pytest.mark.parametrize(
    "parent", [None, "", "nonsense", PARENT.upper(), PARENT.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32)]
)
def test_without_a_sound_parent_a_trace_begins(parent: str | None) -> None:
    assert trace_id(child_of(parent)) != trace_id(child_of(parent))
