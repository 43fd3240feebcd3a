"""The table of states, and what becomes of a word that is not in it."""

import re
from pathlib import Path

import pytest
from joblease.messages import JobEvent
from joblease.states import OUTCOMES, REASONS, Kind, State
from joblease_cli.output import STYLES
from joblease_dashboard.pages.charts import LOOKS
from pydantic import BaseModel

ROOT = Path(__file__).parents[2]
ENDED = {State.COMPLETED, State.FAILED, State.DEADLINE_EXCEEDED, State.WORKER_CRASHED, State.CANCELLED}


@pytest.mark.parametrize("state", State)
def test_each_state_has_its_line(state: State) -> None:
    assert state.kind is not Kind.UNKNOWN
    assert re.fullmatch(r"[-MmLlHhVvCcAaQqZz0-9., ]+", state.icon)
    assert state.reason in REASONS
    assert state.terminal is (state in ENDED)
    assert not (state.terminal and state.admitted)


def test_conditions_follow_from_the_state() -> None:
    assert (State.COMPLETED.succeeded, State.COMPLETED.finished) == ("True", "True")
    assert (State.WORKER_CRASHED.succeeded, State.WORKER_CRASHED.finished) == ("False", "True")
    assert (State.RUNNING.succeeded, State.RUNNING.finished) == ("Unknown", "False")


def test_a_word_of_a_newer_release_is_an_outcome_and_stays_as_it_is() -> None:
    skipped = State("Skipped")
    assert (skipped, str(skipped), skipped.value, skipped.reason) == ("Skipped",) * 4
    assert skipped == State("Skipped") != State("Other")
    assert hash(skipped) == hash(State("Skipped"))
    assert (skipped.kind, skipped.terminal, skipped.admitted) == (Kind.UNKNOWN, True, False)
    assert (skipped.succeeded, skipped.finished) == ("Unknown", "True")
    assert skipped.icon
    assert skipped not in list(State)
    with pytest.raises(ValueError, match="3 is not a valid State"):
        State(3)  # type: ignore[arg-type]


def test_messages_take_it_and_pass_it_on() -> None:
    class Message(BaseModel):
        state: State

    text = '{"state":"Skipped"}'
    assert Message.model_validate_json(text).model_dump_json() == text
    assert JobEvent.model_fields["state"].annotation is State


def test_every_kind_has_its_looks() -> None:
    """On the command line, in the charts and on the pages."""
    style = (ROOT / "dashboard/joblease_dashboard/pages/static/style.css").read_text()
    assert set(STYLES) == set(Kind)
    assert set(LOOKS) == set(OUTCOMES)
    for kind in set(Kind) - {Kind.WAITING}:  # the badge without a kind of its own
        assert re.search(rf"\.badge\.{kind}\b", style), kind
