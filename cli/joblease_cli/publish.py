"""`joblease publish`: jobs by the keystroke, or many at a steady rate; for trying an installation out."""

import os
import random
import select
import sys
import termios
import time
import tty
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager

from joblease.names import suffix

from joblease_cli import output, submit
from joblease_cli.failures import CommandError, Exit
from joblease_cli.kube import JobRequests

_QUALITIES = (
    "amber",
    "brave",
    "calm",
    "early",
    "fancy",
    "gentle",
    "ivory",
    "jolly",
    "keen",
    "lively",
    "mellow",
    "quiet",
)
_THINGS = ("anchor", "bridge", "cloud", "delta", "ember", "falcon", "garden", "harbor", "island", "kettle", "meadow")
_QUIT = {"q", "Q", "\x03", "\x04", "\x1b"}
"""q, Ctrl-C, Ctrl-D and Escape."""


def run(jobs: JobRequests, options: Namespace) -> Exit:
    """A job for each key; or `--count` jobs, which needs no terminal."""
    if options.count is not None:
        return _many(jobs, options)
    if not sys.stdin.isatty():
        raise CommandError("standard input is no terminal, so there are no keys; use --count N", Exit.REFUSED)
    submitted = 0
    with _keys() as keys:
        output.notice("any key submits a job, q quits")  # only now: a key that comes earlier would wait for Enter
        for key in keys:
            if key in _QUIT:
                break
            sys.stdout.write("\r")
            _submit(jobs, options)
            submitted += 1
    output.line(f"{submitted} job{'' if submitted == 1 else 's'} submitted")
    return Exit.OK


def random_name() -> str:
    """A name that is easy to say and to tell apart."""
    return f"{random.choice(_QUALITIES)}-{random.choice(_THINGS)}-{suffix()}"


def _submit(jobs: JobRequests, options: Namespace) -> None:
    submit.print_created(jobs.create(submit.manifest(options, random_name())), options.output)


def _many(jobs: JobRequests, options: Namespace) -> Exit:
    began, submitted = time.monotonic(), 0
    for number in range(options.count):
        if options.rate:
            time.sleep(max(0.0, began + number / options.rate - time.monotonic()))
        try:
            _submit(jobs, options)
        except CommandError as error:
            raise CommandError(f"{submitted} of {options.count} jobs submitted, then: {error}", error.code) from None
        submitted += 1
    output.notice(f"{submitted} jobs submitted in {time.monotonic() - began:.1f} s")
    return Exit.OK


@contextmanager
def _keys() -> Iterator[Iterator[str]]:
    """Keys as they are pressed. The terminal is put back as it was, whatever happens."""
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)

    def pressed() -> Iterator[str]:
        while True:
            ready, _, _ = select.select([terminal], [], [])
            key = os.read(terminal, 8).decode(errors="replace") if ready else ""
            if not key:
                return  # the terminal has gone
            yield key if key == "\x1b" or not key.startswith("\x1b") else " "  # an arrow key is one key

    try:
        tty.setcbreak(terminal)
        yield pressed()
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
