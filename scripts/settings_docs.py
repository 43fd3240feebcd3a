"""Write docs/settings.md from the settings classes: `make settings-docs`."""

import sys
from pathlib import Path

from joblease.settings import BrokerSettings, ProgramSettings, StorageSettings, variables
from joblease_dashboard.settings import DashboardSettings
from joblease_operator.settings import OperatorSettings
from joblease_worker.settings import WorkerSettings
from pydantic_settings import BaseSettings

SHARED = (ProgramSettings, BrokerSettings, StorageSettings)
HEAD = """# Settings

Every setting is an environment variable. `make settings-docs` makes this page from the programs; `--help` of each
program says the same. A wrong setting stops the program and is named. With the chart, `env` (all programs) and
`extraEnv` (one program) set any of them, and win over what the chart makes of its values; those that other objects depend
on, such as ports, are refused with the value to set instead.
"""


def document() -> str:
    """The whole page."""
    parts = [HEAD]
    for title, settings in (
        ("All programs", SHARED),
        ("Operator", (OperatorSettings,)),
        ("Worker", (WorkerSettings,)),
        ("Dashboard", (DashboardSettings,)),
    ):
        rows = [row for each in settings for row in _rows(each)]
        parts.append(f"## {title}\n\n| variable | default | meaning |\n|---|---|---|\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def _rows(settings: type[BaseSettings]) -> list[str]:
    shared = set() if settings in SHARED else {name for each in SHARED for name in each.model_fields}
    return [
        f"| `{each.variable}` | {f'`{each.default}`' if each.default else 'unset'} | {_cell(each.meaning)} |"
        for each in variables(settings)
        if each.field not in shared
    ]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(document())
