"""What a run changes in the standard library, which all code of its process shares.

What programs set there on purpose is put back: loggers, warnings, where temporary files go, how event loops are made.
A function in whose place a run has put another one (a frozen clock, a patch that nobody took away) cannot be put back:
other modules may have taken it by name meanwhile. A process with such a change runs no other job.
"""

import logging
import sys
import warnings
from logging import Logger
from operator import attrgetter
from os import urandom
from typing import Any

from joblease import handlers

_MODULES = (
    "builtins", "datetime", "json", "json.decoder", "json.encoder", "os", "signal", "socket", "subprocess",
    "threading", "time", "traceback",
)  # fmt: skip
"""Those whose functions tests and libraries like to replace, and that nobody changes by using them."""
_settings = attrgetter("level", "disabled", "propagate", "handlers")


class Library:
    """Knows the standard library as it is when this is made: after the handlers were imported."""

    def __init__(self) -> None:
        self._functions = []
        for name in _MODULES:
            if module := sys.modules.get(name):
                self._functions.append((name, module, dict(vars(module))))
        self._handlers = handlers._registry.copy()  # noqa: SLF001 - for nobody else to see
        self._filters = list(warnings.filters)
        self._loggers = {each: (*_settings(each)[:3], list(each.handlers)) for each in _loggers()}
        self._new_logger = _settings(Logger(""))  # noqa: LOG001 - one that nobody has touched
        self._temporary = _attribute("tempfile", "tempdir")
        self._policy = _attribute("asyncio.events", "_event_loop_policy")

    def restore(self) -> None:
        """Put settings back as they were."""
        if warnings.filters != self._filters:
            warnings.filters[:] = self._filters  # type: ignore[index]
            with warnings.catch_warnings():  # what was decided by the others is forgotten
                pass
        for logger in _loggers():
            known = self._loggers.get(logger, self._new_logger)
            if _settings(logger) != known:
                logger.setLevel(known[0])
                logger.disabled, logger.propagate, logger.handlers[:] = known[1:]
        if tempfile := sys.modules.get("tempfile"):
            tempfile.tempdir = self._temporary  # type: ignore[attr-defined]
        if events := sys.modules.get("asyncio.events"):
            events._event_loop_policy = self._policy  # type: ignore[attr-defined] # noqa: SLF001 - to ask would make one
            events._set_running_loop(None)  # noqa: SLF001 - or no other can run
        if random := sys.modules.get("random"):  # seeded, each following job would draw the same
            random._inst.seed(int.from_bytes(urandom(16)))  # noqa: SLF001 - `seed` may be another function now

    def changed(self) -> str:
        """The first function that was replaced, in words; empty when none was."""
        if not self._handlers.items() <= handlers._registry.items():  # noqa: SLF001
            return "other handlers"
        for name, module, known in self._functions:
            if sys.modules.get(name) is not module:
                return f"another module {name!r}"
            now = vars(module)
            if now == known:  # by far the quickest way to see it, and nearly always so
                continue
            for each, its in known.items():
                if callable(its) and now.get(each) is not its:
                    return f"another {name}.{each}"
        return ""


def _attribute(module: str, name: str) -> Any:
    """Of a module, if anybody has imported it."""
    return getattr(sys.modules.get(module), name, None)


def _loggers() -> list[Logger]:
    """All but the root."""
    return [each for each in logging.root.manager.loggerDict.values() if isinstance(each, Logger)]
