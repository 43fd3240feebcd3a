"""A form's fields, read from a request's body."""

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from joblease_dashboard.actions.bodies import body_of
from joblease_dashboard.problems import Problem

if TYPE_CHECKING:
    from starlette.requests import Request

MAX_FORM_BYTES = 256 << 10
MAX_LOGIN_BYTES = 32 << 10
"""Of the form that anybody may send."""
MAX_FIELDS = 1_000


async def read_form(request: "Request", most: int = MAX_FORM_BYTES) -> dict[str, str]:
    """A form's fields. Raises `Problem` when it has more than `most` bytes or is too slow, or no form."""
    async with body_of(request, most, "a form") as body:
        try:
            return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS))
        except ValueError as error:
            raise Problem(400, "Not a form", str(error)) from None
