"""All commands and their options."""

from typing import Any

import click
from joblease import __version__
from joblease.jobrequest import NEVER
from joblease.states import REASONS, State

from joblease_cli import actions, completion, durations, follow, history, output, publish, show, submit
from joblease_cli.command import (
    HELP,
    TIME,
    WHOLE_TIME,
    Command,
    DashboardCommand,
    Option,
    Parsed,
    Root,
    cluster,
    dashboard,
)
from joblease_cli.command import output as form
from joblease_cli.failures import Exit

_JOB = "Job"
STATES = [State.SUBMITTED.value, *(reason.value for reason in REASONS)]
"""The first one is that of a job that no operator has noticed yet."""


def _one(word: str = "job") -> list[click.Parameter]:
    return [click.Argument([word], metavar="JOB", shell_complete=completion.jobs)]


def _several() -> list[click.Parameter]:
    return [
        click.Argument(["names"], nargs=-1, metavar="[JOB]...", shell_complete=completion.jobs),
        Option("-l", "--selector", metavar="LABELS", help="the jobs with these labels, such as app=shop,tier!=test"),
        Option("--handler", metavar="NAME", help="the jobs of this handler", shell_complete=completion.handlers),
        Option(
            "--state", type=click.Choice(STATES), metavar="STATE", help=f"the jobs in this state: {', '.join(STATES)}"
        ),
        Option("--all", is_flag=True, help="all jobs of the namespace"),
        Option("--dry-run", is_flag=True, help="only say which, and how many"),
        Option("-y", "--yes", is_flag=True, help="do not ask, on a terminal, whether all that are selected are meant"),
    ]


def _handler(**settings: Any) -> click.Argument:
    return click.Argument(["handler"], shell_complete=completion.handlers, **settings)


def _labels() -> Option:
    return Option(
        "--label", "labels", multiple=True, metavar="KEY=VALUE", type=Parsed("KEY=VALUE", submit.label), section=_JOB,
        help="a label of the JobRequest; may be repeated",
    )  # fmt: skip


def _spec() -> list[click.Parameter]:
    return [
        Option(
            "-p", "--parameter", multiple=True, metavar="KEY=VALUE", section=_JOB,
            help='a parameter; JSON if it reads as JSON (3, true, [1], "3"), else text; may be repeated',
        ),
        Option(
            "--text", multiple=True, metavar="KEY=TEXT", section=_JOB,
            help="a parameter that is text, whatever it looks like: --text version=1.10",
        ),
        Option(
            "--parameters", metavar="FILE", section=_JOB, shell_complete=completion.files,
            help="a JSON object with parameters; - is standard input",
        ),
        _labels(),
        Option("--input-file-path", metavar="URI", section=_JOB, help="something that the handler can open"),
        Option("--description", metavar="TEXT", section=_JOB, help="free text"),
        Option(
            "--queue", metavar="QUEUE", section=_JOB, shell_complete=completion.queues, help="the worker pool (default)"
        ),
        Option("--priority", type=int, metavar="N", section=_JOB, help="0 to 9; higher goes first"),
        Option("--group", metavar="GROUP", section=_JOB, help="concurrency group"),
        Option("--limit", type=int, metavar="N", section=_JOB, help="jobs of the group that may run at once; 0: any"),
        Option("--max-attempts", type=int, metavar="N", section=_JOB, help="attempts in all (the handler's, else 3)"),
        Option("--key", section=_JOB, help="idempotency key: of all jobs with it, the first one runs"),
        Option("--key-ttl", type=WHOLE_TIME, section=_JOB, help=f"how long the key counts ({durations.EXAMPLES})"),
        Option("--deadline", type=WHOLE_TIME, section=_JOB, help=f"bound on one attempt ({durations.EXAMPLES})"),
        Option(
            "--start-after", type=Parsed("TIME", submit.start_after), section=_JOB,
            help="not before: RFC 3339, or so long from now",
        ),
        Option(
            "--ttl", section=_JOB,
            type=Parsed("TIME", lambda text: NEVER if text == "never" else durations.whole_seconds(text)),
            help="delete the JobRequest so long after its end (1h30m, never)",
        ),
        Option("--suspend", is_flag=True, section=_JOB, help="hold it back until `resume`"),
    ]  # fmt: skip


def _following() -> list[click.Parameter]:
    return [
        Option("--follow", is_flag=True, help="show its progress until it ends"),
        Option("--wait", is_flag=True, help="wait until it ends"),
        _timeout("--follow and --wait"),
    ]


def _listing() -> list[click.Parameter]:
    return [
        Option("--no-headers", is_flag=True, help="without the heading of the table"),
        form("table", "wide", named=False),
    ]


def _timeout(of: str) -> Option:
    return Option("--timeout", type=TIME, help=f"bound on {of} ({durations.EXAMPLES})")


def _complete(shell: str) -> Exit:
    output.raw(completion.script(shell) + "\n")
    return Exit.OK


def _version(context: click.Context, _param: click.Parameter, asked: bool) -> None:  # noqa: FBT001 - click's
    if asked:
        output.line(f"joblease {__version__}")
        context.exit()


ROOT = Root(
    "joblease",
    help="Submit jobs to JobLease, and see what becomes of them. Options may stand anywhere.",
    context_settings=HELP,
    params=[
        click.Option(["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_version,
                     help="Show the version."),
        *cluster(),  # for completion and help: they are always read as the command's
    ],
    commands=[
        Command("submit", submit.run, "submit a job, or with -f all JobRequests of files", [
            _handler(required=False),
            Option("-f", "--filename", "files", multiple=True, metavar="FILE", shell_complete=completion.files,
                   help="YAML or JSON, one or several documents; - is standard input; may be repeated"),
            Option("--name", metavar="NAME", help="name of the JobRequest (default: the handler and random letters)"),
            Option("--generate-name", metavar="PREFIX", help="let the API server complete the name"),
            *_spec(), *_following(), form(),
        ]),
        Command("list", show.run_list, "list jobs", [
            Option("-A", "--all-namespaces", is_flag=True, help="jobs of all namespaces"),
            Option("-l", "--selector", metavar="LABELS", help="only jobs with these labels (app=shop,tier!=test)"),
            Option("--handler", metavar="NAME", help="only jobs of this handler", shell_complete=completion.handlers),
            Option("--queue", metavar="NAME", help="only jobs of this queue", shell_complete=completion.queues),
            Option(
                "--status", type=click.Choice([reason.value for reason in REASONS]), metavar="STATUS",
                help=f"only {', '.join(REASONS)}",
            ),
            Option("-w", "--watch", is_flag=True, help="go on with what changes"),
            Option("--show-labels", is_flag=True, help="with a column of labels"),
            Option("--no-headers", is_flag=True, help="without the heading of the table"),
            form("table", "wide"),
        ]),
        Command("describe", show.run_describe, "show all about a job, with --trail also of a deleted one", [
            *_one(), Option("--trail", is_flag=True, help="with all that happened to it, from the dashboard"),
            *dashboard(), form(),
        ]),
        DashboardCommand("history", history.history, "list the jobs of the audit trail, also deleted ones, or with "
                         "--events what happened; the newest first", [
            Option("-A", "--all-namespaces", is_flag=True, help="of all namespaces"),
            Option("--events", is_flag=True, help="what happened to jobs, not the jobs"),
            Option("--handler", metavar="NAME", help="only of this handler", shell_complete=completion.handlers),
            Option("--group", metavar="GROUP", help="only of this concurrency group"),
            Option("--name", metavar="PREFIX", help="only of jobs whose name begins so"),
            Option("--state", type=click.Choice(STATES[1:]), metavar="STATE", help="only jobs in this state"),
            Option("--status", metavar="STATUS", help="only events with this status, as Started or Step"),
            Option("--from", "since", metavar="TIME", type=Parsed("TIME", history.moment),
                   help="not before: RFC 3339, or so long ago (2h, 7d)"),
            Option("--to", "until", metavar="TIME", type=Parsed("TIME", history.moment), help="not after"),
            Option("--limit", type=click.IntRange(1, 100_000), default=100, metavar="N", help="so many at most (100)"),
            *_listing(),
        ]),
        DashboardCommand("workers", history.workers, "list the workers, and what they run", _listing()),
        DashboardCommand("queues", history.queues, "list the broker's queues", _listing()),
        DashboardCommand("dead-letters", history.dead_letters, "list the oldest dead letters, and why they are ones",
                         _listing()),
        Command("follow", follow.run, "watch a job until it ends; the exit code tells how", [
            *_one(), _timeout("it"),
        ]),
        Command("cancel", actions.cancel, "stop jobs, waiting or running", [
            *_several(), Option("--wait", is_flag=True, help="until they have stopped"), _timeout("--wait"),
        ]),
        Command("suspend", actions.suspend, "hold waiting jobs back", _several()),
        Command("resume", actions.resume, "let suspended jobs go", _several()),
        Command("retry", submit.retry, "submit ended jobs once more, as new jobs with the same spec and labels; "
                "with -l or --all those that failed", [
            *_several(), Option("--force", is_flag=True, help="even if it has not ended"),
            _labels(), *_following(), form(),
        ]),
        Command("publish", publish.run, "submit a randomly named job for each key (q quits), or --count of them", [
            _handler(required=False, default="demo"),
            Option("--count", type=click.IntRange(1), metavar="N", help="submit so many jobs; needs no terminal"),
            Option("--rate", type=click.FloatRange(0, min_open=True), metavar="N", help="with --count: a second"),
            *_spec(), form(),
        ]),
        click.Command(
            "completion", callback=_complete, context_settings=HELP, short_help="completion for a shell",
            params=[click.Argument(["shell"], type=click.Choice([*completion.SHELLS, "kubectl"]))],
            help="Print what a shell must read to complete commands, options and names, such as: "
                 "source <(joblease completion bash). For `kubectl joblease`, `completion kubectl` prints a program "
                 "that kubectl looks for on PATH as kubectl_complete-joblease; pip installs it.",
        ),
    ],
)  # fmt: skip
