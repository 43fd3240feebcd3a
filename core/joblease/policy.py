"""A handler's policy, which its jobs take unless their spec says otherwise, and what comes of both.

It is written with the handler and announced by workers. The operator resolves it when it admits a job, once: the result
is written with the admission, and holds for all attempts of the job, whatever is announced afterwards.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from joblease.limits import is_name
from joblease.model import Model
from joblease.written_policy import FIELD, NAME

if TYPE_CHECKING:
    from joblease.jobrequest import JobRequestSpec

DEFAULT_MAX_ATTEMPTS = 3
_SHOWN = 60


class HandlerPolicy(Model):
    """What a handler says of its jobs; None: nothing."""

    group: str | None = None
    """A name, in which `{parameter}` stands for the job's parameter."""
    limit: int | None = None
    max_attempts: int | None = None
    active_deadline_seconds: int | None = None

    def plain(self) -> dict[str, Any]:
        """As JSON, without what it does not say."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def group_for(self, handler: str, parameters: Mapping[str, Any]) -> str | None:
        """The group of a job with these parameters. Raises `ValueError`, which names the parameter."""

        def value(field: re.Match[str]) -> str:
            name = field[1]
            if name not in parameters:
                raise ValueError(f"{begin}: the parameter {name} is missing")
            given = parameters[name]
            if isinstance(given, str | int) and not isinstance(given, bool):
                return str(given)
            raise ValueError(f"{begin}: the parameter {name} is to be text or an integer, not {_short(given)}")

        if self.group is None:
            return None
        begin = f"handler {handler!r} has its jobs in group {self.group!r}"
        group = FIELD.sub(value, self.group)
        if not is_name(group):
            fields = [f"{name} {_short(parameters[name])}" for name in dict.fromkeys(FIELD.findall(self.group))]
            raise ValueError(f"{begin}: with the parameter {', '.join(fields)} that is no name of a group; {NAME}")
        return group


class JobPolicy(Model):
    """Under which rules a job runs."""

    group: str
    limit: int
    """How many jobs of the group may run at once; 0 means any number."""
    max_attempts: int
    active_deadline_seconds: int | None = None
    from_handler: tuple[str, ...] = ()
    """Fields that are the handler's; the others are the spec's, or the installation's defaults."""
    provisional: bool = False
    """No worker had announced the handler. One that has a policy for it gives the job back before it runs."""

    def plain(self) -> dict[str, Any]:
        """As JSON, without what says nothing."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)

    def shown(self) -> dict[str, Any]:
        """As it is shown to people."""
        return {name: value for name, value in self.plain().items() if name != "provisional"}


def resolve(
    spec: "JobRequestSpec",
    policy: HandlerPolicy | None,
    default_group: str = "default",
    default_limit: int = 1,
    *,
    provisional: bool = False,
) -> JobPolicy:
    """What a job runs under: what its spec says, else its handler's policy, else the installation's defaults.

    Raises `ValueError` when the job's parameters do not make a group.
    """
    own, handlers = spec.concurrency, policy or _NOTHING
    said = {
        "group": own.group if own else None,
        "limit": own.limit if own else None,
        "max_attempts": spec.retry.max_attempts,
        "active_deadline_seconds": spec.active_deadline_seconds,
    }
    given = {
        "group": handlers.group_for(spec.handler, spec.parameters) if said["group"] is None else None,
        "limit": handlers.limit,
        "max_attempts": handlers.max_attempts,
        "active_deadline_seconds": handlers.active_deadline_seconds,
    }
    defaults = {"group": default_group, "limit": default_limit, "max_attempts": DEFAULT_MAX_ATTEMPTS}
    taken = {name: value for name, value in given.items() if said[name] is None and value is not None}
    found = {**defaults, **taken, **{name: value for name, value in said.items() if value is not None}}
    return JobPolicy(**found, from_handler=tuple(map(_NAMES.__getitem__, taken)), provisional=provisional)


@lru_cache(maxsize=1_024)
def read(text: str) -> JobPolicy:
    """A policy as it was written; the same object for the same text, since many jobs have the same."""
    return JobPolicy.model_validate_json(text)


_NOTHING = HandlerPolicy()
_NAMES = {name: str(field.alias) for name, field in HandlerPolicy.model_fields.items()}


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
