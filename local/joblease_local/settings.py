"""Settings of the embedded default, `JOBLEASE_LOCAL_…`."""

from pathlib import Path
from typing import Annotated

from joblease.settings import Port
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

ROOT = Path(__file__).resolve().parents[2]


class LocalSettings(BaseSettings):
    """How `make up` runs JobLease on this machine."""

    model_config = SettingsConfigDict(env_prefix="JOBLEASE_LOCAL_", extra="ignore", use_attribute_docstrings=True)

    state: Path = Path(".local")
    """Folder for data, logs, the kubeconfig, and what was downloaded or built; relative to the project."""
    workers: Annotated[int, Field(ge=1, le=50)] = 3
    """How many workers to run."""
    dashboard_port: Port = 8080
    """Port of the dashboard."""
    first_port: Annotated[int, Field(ge=1024, le=65000)] = 21800
    """First of the ports of everything else, which follow each other; not the usual ones, which may be in use."""

    @property
    def folder(self) -> Path:
        """The state folder's absolute path."""
        return (ROOT / self.state).resolve()

    def ports(self) -> dict[str, int]:
        """All ports but the one of the dashboard's pages, by purpose."""
        purposes = [
            "kube-apiserver", "etcd", "etcd's peers", "RabbitMQ", "RabbitMQ's distribution", "RabbitMQ's epmd",
            "Azurite's blobs", "Azurite's queues", "Azurite's tables", "operator", *self.worker_names(), "dashboard",
        ]  # fmt: skip
        return {purpose: self.first_port + offset for offset, purpose in enumerate(purposes)}

    def worker_names(self) -> list[str]:
        """What the workers are called."""
        return [f"worker-{number}" for number in range(1, self.workers + 1)]
