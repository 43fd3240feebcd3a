"""The command line as a process; the operator's part is played by the test."""

import json
import os
import pty
import re
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, config

from support.programs import BIN

COORDINATES = {"group": "joblease.dev", "version": "v1alpha1", "plural": "jobrequests"}


class Cli:
    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self.environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "COLUMNS": "200"}
        self.namespace = namespace
        self._api = client.CustomObjectsApi(config.new_client_from_config(str(kubeconfig)))

    def command(self, *arguments: str, program: str = "joblease") -> list[str]:
        return [str(BIN / program), *arguments, "-n", self.namespace]

    def __call__(self, *arguments: str, text: str = "", program: str = "joblease") -> subprocess.CompletedProcess[str]:
        command = self.command(*arguments, program=program)
        return subprocess.run(
            command, env=self.environment, input=text, capture_output=True, text=True, timeout=60, check=False
        )

    def on_a_terminal(self, *arguments: str, columns: int = 80, answer: str = "") -> str:
        """What a terminal of that width shows, without colours; `answer` is typed before."""
        ours, theirs = pty.openpty()
        os.write(ours, answer.encode())
        environment = {**self.environment, "COLUMNS": str(columns), "TERM": "xterm", "NO_COLOR": "1"}
        seen: list[bytes] = []

        def read() -> None:
            try:
                while block := os.read(ours, 65_536):
                    seen.append(block)
            except OSError:
                return  # the other side was closed

        reader = threading.Thread(target=read)
        reader.start()
        try:
            subprocess.run(
                self.command(*arguments),
                env=environment,
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                timeout=60,
                check=False,
            )
        finally:
            os.close(theirs)
            reader.join(10)
            os.close(ours)
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(seen).decode())

    def kubectl(self, *arguments: str) -> str | None:
        """What kubectl prints; None where there is none."""
        program = kubectl()
        if program is None:
            return None
        done = subprocess.run(
            [program, *arguments, "-n", self.namespace],
            env=self.environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def kubeconfig(self, path: Path, change: Callable[[dict[str, Any]], None]) -> str:
        """A changed copy of the kubeconfig."""
        content = yaml.safe_load(Path(self.environment["KUBECONFIG"]).read_text())
        change(content)
        path.write_text(json.dumps(content))
        return str(path)

    def submit(self, *arguments: str) -> str:
        done = self("submit", *arguments, "-o", "name")
        assert done.returncode == 0, done.stderr
        return done.stdout.strip().rpartition("/")[2]

    def get(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self._api.get_namespaced_custom_object(
            **COORDINATES, namespace=self.namespace, name=name
        )
        return found

    def becomes(self, name: str, reason: str, status: str = "Unknown", **more: Any) -> None:
        """What the operator would write."""
        condition = {
            "type": "Succeeded", "status": status, "reason": reason, "message": "",
            "lastTransitionTime": "2026-11-24T00:00:00Z",
        }  # fmt: skip
        body = {"status": {"conditions": [condition], **more}}
        self._api.patch_namespaced_custom_object_status(**COORDINATES, namespace=self.namespace, name=name, body=body)


def kubectl() -> str | None:
    """kubectl, as envtest brings it or as it is installed."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    return shutil.which("kubectl", path=assets) or shutil.which("kubectl")
