from typing import Any

import pytest
from joblease import JobContext, PermanentError
from joblease_worker.parameters import fit
from pydantic import BaseModel


class Size(BaseModel):
    width: int
    height: int = 1


def resize(job: JobContext, path: str, width: int = 800, size: Size | None = None) -> None: ...


def anything(job: JobContext, width: int = 1, **others: Any) -> None: ...


def bare(_: Any, value, other=3) -> None: ...  # type: ignore[no-untyped-def] # noqa: ANN001


def test_values_are_converted_to_the_annotations() -> None:
    assert fit("resize", resize, {"path": "a", "width": "12"}) == {"path": "a", "width": 12}
    assert fit("resize", resize, {"path": "a", "size": {"width": 2}})["size"] == Size(width=2)


def test_what_the_handler_does_not_name_stays_in_the_context() -> None:
    assert fit("resize", resize, {"path": "a", "colour": "red"}) == {"path": "a"}
    assert fit("anything", anything, {"width": 2, "colour": "red"}) == {"width": 2, "colour": "red"}


def test_a_handler_without_annotations_gets_what_was_sent() -> None:
    assert fit("bare", bare, {"value": [1]}) == {"value": [1]}


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(PermanentError) as error:
        fit("resize", resize, {"width": "wide", "size": {"height": "tall"}})
    text = str(error.value)
    assert text.startswith("the parameters do not fit handler 'resize': path: required, but not given; width: ")
    assert "size.width: Field required" in text
    assert "size.height: " in text
