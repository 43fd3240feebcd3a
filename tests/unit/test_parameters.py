import functools
from typing import Annotated, Any

import pytest
from joblease import JobContext, PermanentError
from joblease.parameters import describe, fit
from pydantic import BaseModel, Field


class Size(BaseModel):
    width: int
    height: int = 1


def resize(job: JobContext, path: str, width: int = 800, size: Size | None = None) -> None: ...


def anything(job: JobContext, width: int = 1, **others: Any) -> None: ...


class Callable:
    """An object that can be called."""

    def __call__(self, job: JobContext, count: "int", unknown: "NotThere" = 3) -> None:  # type: ignore[name-defined] # noqa: F821
        ...


class Rude:
    """A default that answers nothing."""

    def __repr__(self) -> str:
        raise ZeroDivisionError

    __eq__ = __bool__ = __str__ = __repr__  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]


def odd(job: JobContext, *, bounded: Annotated[int, Field(ge=1)] = 1, rude: Any = Rude(), five: 5 = 5) -> None:  # type: ignore[valid-type] # noqa: B008
    ...


@functools.wraps(resize)
def wrapped(*args: Any, **named: Any) -> None: ...


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


def test_what_cannot_be_resolved_counts_as_any_and_spoils_nothing_else() -> None:
    function = Callable()
    assert fit("callable", function, {"count": "3", "unknown": [1]}) == {"count": 3, "unknown": [1]}
    assert describe("callable", function)["parameters"]["properties"] == {
        "count": {"type": "integer"},
        "unknown": {"default": 3},
    }


def test_odd_signatures_are_described_and_served() -> None:
    assert describe("odd", odd)["parameters"]["properties"] == {
        "bounded": {"type": "integer", "minimum": 1, "default": 1},
        "rude": {},
        "five": {"default": 5},
    }
    assert fit("odd", odd, {"five": 6}) == {"five": 6}
    with pytest.raises(PermanentError, match="bounded: Input should be greater than or equal to 1"):
        fit("odd", odd, {"bounded": 0})


def test_decorated_functions_and_partials_have_the_parameters_of_what_they_call() -> None:
    assert fit("wrapped", wrapped, {"path": "a", "width": "12"}) == {"path": "a", "width": 12}
    partial = functools.partial(resize, width=3)
    assert fit("partial", partial, {"path": "a", "size": {"width": "2"}}) == {"path": "a", "size": Size(width=2)}
    assert describe("partial", partial)["parameters"]["required"] == ["path"]


def test_the_context_is_never_taken_from_the_parameters() -> None:
    assert fit("anything", anything, {"job": "forged", "colour": "red"}) == {"colour": "red"}


def test_a_description_that_cannot_be_sent_is_left_out() -> None:
    def strange(job: JobContext) -> None: ...

    strange.__doc__ = 3  # type: ignore[assignment]
    strange.__signature__ = "none"  # type: ignore[attr-defined]
    assert describe("strange", strange) == {"name": "strange", "description": "", "parameters": {}}
