"""`joblease`, also as `kubectl joblease`: the parser, and exit codes that scripts can rely on."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from joblease import __version__
from joblease.jobrequest import NEVER
from joblease.limits import API_DEPTH
from joblease.states import REASONS

from joblease_cli import actions, follow, output, publish, show, submit
from joblease_cli.failures import MEANINGS, CommandError, Exit
from joblease_cli.kube import JobRequests, connect

Run = Callable[[JobRequests, argparse.Namespace], Exit]


def parser(program: str) -> argparse.ArgumentParser:
    """All commands and their options."""
    codes = "\n".join(f"  {code.value:>3}  {meaning}" for code, meaning in MEANINGS.items())
    root = argparse.ArgumentParser(
        program,
        description="Submit jobs to JobLease, and see what becomes of them.",
        epilog=f"exit codes:\n{codes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action="version", version=f"joblease {__version__}")
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Run, purpose: str, **options: Any) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=purpose, description=purpose[0].upper() + purpose[1:] + ".", **options)
        made.set_defaults(run=run)
        _add_cluster(made)
        return made

    made = command("submit", submit.run, "submit a job")
    made.add_argument("handler", help="the handler that runs it")
    names = made.add_mutually_exclusive_group()
    names.add_argument("--name", help="name of the JobRequest (default: the handler and a few random letters)")
    names.add_argument("--generate-name", metavar="PREFIX", help="let the API server complete the name")
    _add_spec(made)
    _add_following(made)
    _add_output(made, "name", "json", "yaml")

    made = command("list", show.run_list, "list jobs", aliases=["ls"])
    made.add_argument("-A", "--all-namespaces", action="store_true", help="jobs of all namespaces")
    made.add_argument("-l", "--selector", help="only jobs with these labels")
    made.add_argument("--handler", help="only jobs of this handler")
    made.add_argument("--queue", help="only jobs of this queue")
    made.add_argument("--status", choices=list(REASONS), metavar="STATUS", help=f"only {', '.join(REASONS)}")
    made.add_argument("-w", "--watch", action="store_true", help="go on with what changes")
    _add_output(made, "table", "wide", "name", "json", "yaml")

    made = command("describe", show.run_describe, "show all about a job")
    made.add_argument("job", help="name or job id")
    _add_output(made, "json", "yaml")

    made = command("follow", follow.run, "watch a job until it ends; the exit code tells how")
    made.add_argument("job", help="name or job id")
    made.add_argument("--timeout", type=_seconds, metavar="TIME", help="give up after so long (90, 10m, 2h)")

    made = command("cancel", actions.cancel, "stop jobs, waiting or running")
    made.add_argument("jobs", nargs="+", metavar="job", help="name or job id")
    made.add_argument("--wait", action="store_true", help="until they have stopped")
    made.add_argument("--timeout", type=_seconds, metavar="TIME", help="bound on --wait (90, 10m, 2h)")

    for name, run, purpose in (
        ("suspend", actions.suspend, "hold waiting jobs back"),
        ("resume", actions.resume, "let suspended jobs go"),
    ):
        made = command(name, run, purpose)
        made.add_argument("jobs", nargs="+", metavar="job", help="name or job id")

    made = command("retry", submit.retry, "submit an ended job once more, as a new job with the same spec")
    made.add_argument("job", help="name or job id")
    made.add_argument("--force", action="store_true", help="even if it has not ended")
    _add_following(made)
    _add_output(made, "name", "json", "yaml")

    made = command("publish", publish.run, "submit a randomly named job for each key (q quits), or --count of them")
    made.add_argument("handler", nargs="?", default="demo", help="the handler that runs them (default: demo)")
    made.add_argument("--count", type=_positive, metavar="N", help="submit so many jobs; needs no terminal")
    made.add_argument("--rate", type=float, metavar="R", help="with --count: so many a second")
    _add_spec(made)
    _add_output(made, "name", "json", "yaml")
    return root


def _add_cluster(made: argparse.ArgumentParser) -> None:
    group = made.add_argument_group("cluster")
    group.add_argument("--kubeconfig", help="default: KUBECONFIG, or ~/.kube/config")
    group.add_argument("--context", help="context of the kubeconfig")
    group.add_argument("-n", "--namespace", help="default: the context's")
    group.add_argument(
        "--request-timeout", type=float, default=15, metavar="SECONDS", help="bound on each request (15)"
    )


def _add_spec(made: argparse.ArgumentParser) -> None:
    group = made.add_argument_group("job")
    group.add_argument(
        "-p", dest="parameter", action="append", default=[], metavar="KEY=VALUE",
        help="a parameter; the value is JSON if it reads as JSON, else text",
    )  # fmt: skip
    group.add_argument("--parameters", metavar="FILE", help="a JSON object with parameters; - is standard input")
    group.add_argument("--input-file-path", metavar="URI", help="something that the handler can open")
    group.add_argument("--description", help="free text")
    group.add_argument("--queue", help="the worker pool (default)")
    group.add_argument("--priority", type=int, help="0 to 9; higher goes first")
    group.add_argument("--group", help="concurrency group")
    group.add_argument("--limit", type=int, help="jobs of the group that may run at once; 0: any number")
    group.add_argument("--max-attempts", type=int, metavar="N", help="attempts in all (3)")
    group.add_argument("--deadline", type=_seconds, metavar="TIME", help="bound on one attempt (90, 10m, 2h)")
    group.add_argument(
        "--start-after", type=submit.start_after, metavar="TIME", help="not before: RFC 3339, or 10m, 2h"
    )
    group.add_argument(
        "--ttl", type=_ttl, metavar="TIME", help="delete the JobRequest so long after its end (90, 10m, 2h, never)"
    )
    group.add_argument("--suspend", action="store_true", help="hold it back until `resume`")


def _add_following(made: argparse.ArgumentParser) -> None:
    group = made.add_mutually_exclusive_group()
    group.add_argument("-f", "--follow", action="store_true", help="show its progress until it ends")
    group.add_argument("--wait", action="store_true", help="wait until it ends")
    made.add_argument("--timeout", type=_seconds, metavar="TIME", help="bound on --follow and --wait (90, 10m, 2h)")


def _add_output(made: argparse.ArgumentParser, *forms: str) -> None:
    made.add_argument("-o", "--output", choices=forms, help="how to print it")


def _ttl(text: str) -> int:
    return NEVER if text == "never" else _seconds(text)


def _seconds(text: str) -> int:
    try:
        return submit.seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, not {text!r}")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; ends the process with one of the exit codes."""
    sys.setrecursionlimit(API_DEPTH + sys.getrecursionlimit())
    program = "kubectl joblease" if Path(sys.argv[0]).name.startswith("kubectl-") else "joblease"
    options = parser(program).parse_args(arguments)
    if getattr(options, "rate", None) is not None and options.rate <= 0:
        parser(program).error("--rate must be more than 0")
    try:
        jobs = connect(options.kubeconfig, options.context, options.namespace, options.request_timeout)
        code = options.run(jobs, options)
    except CommandError as error:
        output.notice(f"{program}: {error}")
        code = error.code
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = Exit.OK
    sys.exit(code)
