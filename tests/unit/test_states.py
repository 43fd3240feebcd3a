"""The table of states, and what becomes of a word that is not in it."""

import re
from pathlib import Path

import pytest
from joblease.handlers import GIVEN
from joblease.messages import STATUSES, JobEvent
from joblease.states import LOOKS, OUTCOMES, REASONS, Kind, Look, State
from joblease.topology import READERS
from joblease_cli.output import STYLES
from pydantic import BaseModel

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "dashboard/joblease_dashboard/pages/static"


def test_what_nobody_knows_comes_last() -> None:
    assert list(Kind)[-1] is Kind.UNKNOWN


@pytest.mark.parametrize("state", State)
def test_each_state_has_its_line(state: State) -> None:
    assert state.kind is not Kind.UNKNOWN
    assert re.fullmatch(r"[-MmLlHhVvCcAaQqZz0-9., ]+", state.icon)
    assert state.reason in REASONS
    assert state.terminal is (state.kind not in (Kind.WAITING, Kind.RUNNING))
    assert not (state.terminal and state.admitted)
    if state.terminal:
        assert state.event in STATUSES
        assert f"*.{state.event}" in READERS["operator"]


def test_conditions_follow_from_the_state() -> None:
    assert (State.COMPLETED.succeeded, State.COMPLETED.finished) == ("True", "True")
    assert (State.WORKER_CRASHED.succeeded, State.WORKER_CRASHED.finished) == ("False", "True")
    assert (State.RUNNING.succeeded, State.RUNNING.finished) == ("Unknown", "False")


def test_a_word_of_a_newer_release_is_an_outcome_and_stays_as_it_is() -> None:
    unheard = State("Unheard")
    assert (unheard, str(unheard), unheard.value, unheard.reason) == ("Unheard",) * 4
    assert unheard == State("Unheard") != State("Other")
    assert hash(unheard) == hash(State("Unheard"))
    assert (unheard.kind, unheard.terminal, unheard.admitted) == (Kind.UNKNOWN, True, False)
    assert (unheard.succeeded, unheard.finished) == ("Unknown", "True")
    assert unheard.icon
    assert unheard not in list(State)
    with pytest.raises(ValueError, match="3 is not a valid State"):
        State(3)  # type: ignore[arg-type]


def test_messages_take_it_and_pass_it_on() -> None:
    class Message(BaseModel):
        state: State

    text = '{"state":"Unheard"}'
    assert Message.model_validate_json(text).model_dump_json() == text
    assert JobEvent.model_fields["state"].annotation is State


@pytest.mark.parametrize("look", LOOKS)
def test_every_look_is_one_on_the_pages_and_on_the_command_line(look: Look) -> None:
    assert re.search(rf"(^|\s)\.{look}(, \.\w+)* {{ color:", (STATIC / "style.css").read_text())
    assert look in STYLES


def test_each_outcome_has_a_look_of_its_own_in_charts() -> None:
    script, style = ((STATIC / name).read_text() for name in ("charts.js", "style.css"))
    looks = [kind.look for kind in OUTCOMES]
    assert len(looks) == len(set(looks))
    for look in looks:
        assert f" {look}: [" in script
        assert f' {look}: "--' in script
        assert f"time-chart::part({look})" in style


def test_what_a_handler_can_give_is_an_outcome() -> None:
    assert all(outcome.terminal for outcome in GIVEN)
