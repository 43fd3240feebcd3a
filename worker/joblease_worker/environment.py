"""The environment of the processes that a worker starts: its own, without the keys to the broker and to storage.

Whoever has these can rewrite the audit trail, and a handler has hundreds of dependencies. An identity of the pod
(a token in a file, a metadata service) is open to all that runs in the pod, and stays: no variable can hide it.
"""

import os
from typing import TYPE_CHECKING

from joblease.settings import BrokerSettings, StorageSettings

if TYPE_CHECKING:
    from joblease_worker.settings import WorkerSettings

_AZURE_SECRETS = {  # https://learn.microsoft.com/python/api/azure-identity/azure.identity.environmentcredential
    "AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_CLIENT_CERTIFICATE_PASSWORD", "AZURE_USERNAME",
    "AZURE_PASSWORD",
}  # fmt: skip


def without_keys(settings: "WorkerSettings") -> dict[str, str]:
    """The environment for what this worker starts."""
    hidden = {f"JOBLEASE_{name.upper()}" for base in (BrokerSettings, StorageSettings) for name in base.model_fields}
    if settings.storage_account_url:  # these are then our key to storage
        hidden |= _AZURE_SECRETS
    kept = {name: value for name, value in os.environ.items() if name.upper() not in hidden}
    if settings.handlers:
        kept["JOBLEASE_HANDLERS"] = settings.handlers
    if settings.commands:
        kept["JOBLEASE_COMMANDS"] = str(settings.commands)
    return kept
