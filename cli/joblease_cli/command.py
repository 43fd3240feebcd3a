"""Commands and options as all of them have them: options may stand anywhere, also before the command's name.

That is how kubectl reads a line, and click does not: so what stands before the command's name is moved behind it.
"""

from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import Any

import click

from joblease_cli import completion, durations, forms
from joblease_cli.connection import URL_VARIABLE, meant_by
from joblease_cli.failures import MEANINGS, CommandError, Exit

HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Option(click.Option):
    """An option, and the section of the help that it is in."""

    def __init__(self, *names: str, section: str = "Options", **settings: Any) -> None:
        super().__init__(names, **settings)
        self.section = section


class Parsed(click.ParamType[Any]):
    """A value that a function makes of the text; its errors are for people."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As click asks for it. A default is a value already."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except (ValueError, CommandError) as error:
            self.fail(str(error), param, ctx)


TIME = Parsed("TIME", durations.seconds)
WHOLE_TIME = Parsed("TIME", durations.whole_seconds)

CLUSTER = "Cluster"


def cluster() -> list[click.Parameter]:
    """Which cluster is meant; every command has these."""
    return [
        Option(
            "-n", "--namespace", metavar="NAME", section=CLUSTER, help="default: the context's",
            shell_complete=completion.namespaces,
        ),
        Option(
            "--context", metavar="NAME", section=CLUSTER, help="of the kubeconfig; default: its current one",
            shell_complete=completion.contexts,
        ),
        Option(
            "--kubeconfig", metavar="FILE", section=CLUSTER, help="default: KUBECONFIG, or ~/.kube/config",
            shell_complete=completion.files,
        ),
        Option(
            "--request-timeout", type=TIME, default=15.0, show_default=False, section=CLUSTER,
            help="bound on each request; 0 is none (15s)",
        ),
    ]  # fmt: skip


def output(*more: str, named: bool = True) -> Option:
    """-o, with the forms that this command has beside those that all have; `named`: what is printed has a name."""
    names = (*more, *(each for each in forms.PLAIN if named or each != "name"))

    def parse(text: str) -> Any:
        if text == "name" and not named:
            raise ValueError(f"expected one of {', '.join(names)}, not 'name'")
        return text if text in more else forms.form(text)

    return Option(
        "-o", "--output", metavar="FORM", type=Parsed("FORM", parse),
        shell_complete=completion.among([name.rstrip("…") for name in names]),
        help=f"how to print it: {', '.join(names)}",
    )  # fmt: skip


class _Sections(click.Command):
    """A command whose help shows the options by their sections."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options by their sections."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record:
                sections.setdefault(getattr(param, "section", "Options"), []).append(record)
        for title in sorted(sections, key=lambda each: (each == CLUSTER, each != "Options")):
            with formatter.section(title):
                formatter.write_dl(sections[title])


class Command(_Sections):
    """A command that talks to a cluster."""

    way = "Through the Kubernetes API."

    def __init__(self, name: str, run: Callable[..., Exit], purpose: str, params: Sequence[click.Parameter]) -> None:
        super().__init__(
            name, callback=lambda **given: run(self.opened(Namespace(**given)), Namespace(**given)),
            params=[*params, *cluster()], context_settings=HELP,
            short_help=purpose, help=f"{purpose[0].upper()}{purpose[1:]}. {self.way}",
        )  # fmt: skip

    def opened(self, options: Namespace) -> Any:
        """What the command is done with."""
        return meant_by(options)


def dashboard() -> list[click.Parameter]:
    """Which dashboard is meant, and who asks."""
    return [
        Option(
            "--dashboard", metavar="URL|NAMESPACE/SERVICE", envvar=URL_VARIABLE, show_envvar=True, section="Dashboard",
            help="its address, or its Service, to which the API server leads; default: the cluster's only one",
        ),
        Option(
            "--dashboard-token", metavar="TOKEN", envvar="JOBLEASE_DASHBOARD_TOKEN", show_envvar=True,
            section="Dashboard", help="default: that of the kubeconfig",
        ),
        Option(
            "--dashboard-ca", metavar="FILE", envvar="JOBLEASE_DASHBOARD_CA", show_envvar=True, section="Dashboard",
            help="authorities for its certificate (PEM)", shell_complete=completion.files,
        ),
    ]  # fmt: skip


class DashboardCommand(Command):
    """A command that asks the dashboard."""

    way = "Through the dashboard's API, by its address or through the API server."

    def __init__(self, name: str, run: Callable[..., Exit], purpose: str, params: Sequence[click.Parameter]) -> None:
        super().__init__(name, run, purpose, [*params, *dashboard()])

    def opened(self, options: Namespace) -> Any:
        """The dashboard."""
        from joblease_cli.dashboard import Dashboard  # the other commands need no HTTP client of its kind

        return click.get_current_context().with_resource(Dashboard(options))


class Root(_Sections, click.Group):
    """All commands."""

    aliases = {"ls": "list"}  # noqa: RUF012 - never changed

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options, then the commands."""
        super().format_options(ctx, formatter)
        self.format_commands(ctx, formatter)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Also by an alias."""
        return super().get_command(ctx, self.aliases.get(cmd_name, cmd_name))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """With the options of the command behind its name, wherever they were."""
        return super().parse_args(ctx, self._command_first(args))

    def _command_first(self, args: list[str]) -> list[str]:
        valued = {
            name
            for command in self.commands.values()
            for param in command.params
            if isinstance(param, click.Option) and not param.is_flag
            for name in param.opts
        }
        position = 0
        while position < len(args) and args[position].startswith("-") and args[position] != "--":
            position += 2 if args[position] in valued else 1
        if position >= len(args):
            return args
        return [args[position], *args[:position], *args[position + 1 :]]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """The exit codes."""
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code.value), meaning) for code, meaning in MEANINGS.items()])
