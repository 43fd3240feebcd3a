"""What docs/cli.md says is so: its commands work, and its exit codes are the command line's."""

import re
import subprocess
from pathlib import Path

import pytest
from joblease_cli.failures import MEANINGS
from joblease_local.settings import ROOT
from support.attack import Dashboard
from support.cli import Cli
from support.programs import BIN

GUIDE = (ROOT / "docs" / "cli.md").read_text()


@pytest.mark.timeout(300)  # a process for each command
@pytest.mark.usefixtures("operator", "worker")
def test_the_commands_of_the_guide_work(cli: Cli, dashboard: Dashboard, tmp_path: Path) -> None:
    kubeconfig = cli.kubeconfig(
        tmp_path / "config", lambda content: content["contexts"][0]["context"].update(namespace=cli.namespace)
    )
    commands = [block for block in re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL) if "pip install" not in block]
    assert len(commands) == 7
    # the workers of the tests have a queue of their own
    script = "\n".join(commands).replace("joblease submit demo", f"joblease submit demo --queue {cli.namespace}")
    done = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", script],
        env={
            **cli.environment, "KUBECONFIG": kubeconfig, "PATH": f"{BIN}:{cli.environment['PATH']}",
            "JOBLEASE_DASHBOARD_URL": dashboard.url, "JOBLEASE_DASHBOARD_TOKEN": dashboard.admin,
        },
        cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "first Completed" in done.stdout
    assert "first\t100\n" in done.stdout
    assert "2 jobs would be cancelled" in done.stdout
    assert "Step 1" in done.stdout.split("Audit trail:")[-1]
    assert (tmp_path / "joblease.fish").read_text()


def test_the_exit_codes_of_the_guide_are_all() -> None:
    rows = {int(code) for code in re.findall(r"^\| (\d+) \|", GUIDE, re.MULTILINE)}
    assert rows == set(MEANINGS)
