"""Page tokens: storage's own continuation token in a wrapping that can be checked."""

import base64
import json
import re
from typing import Any

from joblease_dashboard.read_model.seals import Seals

_PARTITION = re.compile(r"[0-9]{6}")

Position = dict[str, str | None]
"""Storage's continuation token: a partition and a row, as it spells them."""


class BadToken(ValueError):
    """The page token did not come from here."""


def token_of(start: str, end: str | None, position: Position | None, seals: Seals) -> str:
    """A token for: partitions from `start` to before `end`, from storage's position on."""
    text = json.dumps([2, start, end, position]).encode()
    return seals.seal(base64.urlsafe_b64encode(text).decode().rstrip("="))


def parse(token: str, seals: Seals) -> tuple[str, str | None, Position | None]:
    """Raises `BadToken`."""
    try:
        token = seals.open(token)
        version, start, end, position = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (ValueError, TypeError, RecursionError) as error:
        raise BadToken("this page token is not one of ours") from error
    if version != 2 or not (_is_partition(start) and (end is None or _is_partition(end)) and _is_position(position)):
        raise BadToken("this page token is not one of ours")
    return start, end, position


def _is_partition(value: Any) -> bool:
    return isinstance(value, str) and bool(_PARTITION.fullmatch(value))


def _is_position(value: Any) -> bool:
    if not isinstance(value, dict):
        return value is None
    return set(value) == {"PartitionKey", "RowKey"} and all(
        key is None or (isinstance(key, str) and key.isprintable()) for key in value.values()
    )
