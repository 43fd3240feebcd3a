"""`joblease`, also as `kubectl joblease`: exit codes that scripts can rely on, whatever happens."""

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import click
from joblease.limits import allow_depth_of_api_server

from joblease_cli import completion, output
from joblease_cli.commands import ROOT
from joblease_cli.failures import CommandError, Exit


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; ends the process with one of the exit codes."""
    allow_depth_of_api_server()
    # What is closed is not wanted. An error that could not be said would end in Python's 1: the job failed.
    sys.stdout, sys.stderr = sys.stdout or _nowhere(), sys.stderr or _nowhere()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter
    if not completion.answered(ROOT):
        sys.exit(_code(list(sys.argv[1:] if arguments is None else arguments)))


def _nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")


def complete_for_kubectl() -> None:
    """Entry point of `kubectl_complete-joblease`, which kubectl asks for words."""
    completion.for_kubectl(ROOT, sys.argv[1:])


def _code(arguments: list[str]) -> int:
    try:
        with ROOT.make_context(output.program(), [_text(each) for each in arguments]) as context:
            return int(ROOT.invoke(context) or Exit.OK)
    except click.exceptions.Exit as ended:  # --help, --version
        return ended.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else output.program()
        said = error.format_message().rstrip(".")
        output.error(f"{said}{'' if said.endswith('?') else '.'} See `{command} --help`")
    except CommandError as error:
        output.error(error)
        return error.code
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    except Exception as error:  # noqa: BLE001 - Python would end with 1, which means that the job failed
        if os.environ.get("JOBLEASE_DEBUG"):
            traceback.print_exc()
        output.error(
            f"unexpected {type(error).__name__}: {error}. This is a fault of joblease itself, or of this machine"
        )
        return Exit.FAULT
    return Exit.REFUSED


def _text(argument: str) -> str:
    """An argument as UTF-8, whatever the locale says. Raises `CommandError` when it is none."""
    try:
        return argument if argument.isascii() else os.fsencode(argument).decode()
    except ValueError:
        raise CommandError(f"{argument!r} is no UTF-8", Exit.REFUSED) from None
