"""Structured logs: one JSON object a line for machines, readable lines for a terminal.

Everything goes through the standard library's loggers, so that lines of kopf, aio-pika and uvicorn look the same and
carry the same job fields. `bind` puts those fields (job id, attempt, worker, trace id) into every line that is written
in the same task, also by code that knows nothing about jobs.
"""

import logging
import sys
from typing import TYPE_CHECKING

import structlog
from structlog.contextvars import bound_contextvars as bind

if TYPE_CHECKING:
    from structlog.typing import Processor

    from joblease.settings import ProgramSettings

__all__ = ["bind", "configure"]

# Chatty at INFO: one line per storage request, per watch event, per heartbeat.
QUIET = ("azure", "aiormq", "aio_pika", "kopf", "urllib3", "asyncio", "uvicorn.access", "httpx", "kubernetes")


def configure(settings: "ProgramSettings", program: str) -> None:
    """Send this process's logs to standard error in the format that the settings ask for."""
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.ExtraAdder(),
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.EventRenamer("message"),
         structlog.processors.JSONRenderer()]
        if as_json
        else [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    )  # fmt: skip
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )
    output = logging.StreamHandler(sys.stderr)
    output.setFormatter(formatter)
    logging.basicConfig(handlers=[output], level=settings.log_level, force=True)
    logging.captureWarnings(capture=True)
    if settings.log_level != "DEBUG":
        for name in QUIET:
            logging.getLogger(name).setLevel(logging.WARNING)
    structlog.contextvars.bind_contextvars(program=program)
