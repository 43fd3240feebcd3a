"""Azurite, Microsoft's emulator of Azure storage, from npm."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from joblease_local import npm
from joblease_local.ports import listening
from joblease_local.processes import OneProcess, PartFailed, Process, Say

PACKAGE = Path(__file__).parent.parent / "azurite" / "package.json"
LEASES = PACKAGE.with_name("leases.cjs")
"""Loaded into Azurite, so that its leases outlive a restart."""
MEMORY = PACKAGE.with_name("memory.cjs")
"""Loaded into one without persistence, so that it does not stand still for its garbage."""
READY_SECONDS = 60


def require_azurite(cache: Path, say: Say) -> Path:
    """Azurite's main script; installed into the cache if it is not there in the wanted version. Raises `PartFailed`."""
    instead = ", or set JOBLEASE_STORAGE_CONNECTION_STRING to a storage account"
    return npm.require("Azurite", PACKAGE, "azurite/dist/src/azurite.js", cache, say, instead)


class Azurite(OneProcess):
    """Blob and table storage on the loopback address."""

    name = "Azurite"

    def __init__(
        self,
        script: Path,
        state: Path,
        ports: tuple[int, int, int],
        accounts: Mapping[str, str],
        *,
        durable: bool = True,
    ) -> None:
        """`ports`: blob, queue, table. `accounts`: name and key of each. Without `durable`, data stays in memory."""
        self._script = script
        self._folder = state / "azurite-data"
        self._ports = ports
        self._accounts = accounts
        self._durable = durable
        self.process = Process("azurite", state)

    def connection_string(self, account: str) -> str:
        """How to reach one of the accounts."""
        blob, _, table = self._ports
        return (
            f"DefaultEndpointsProtocol=http;AccountName={account};AccountKey={self._accounts[account]};"
            f"BlobEndpoint=http://127.0.0.1:{blob}/{account};TableEndpoint=http://127.0.0.1:{table}/{account};"
        )

    def start(self) -> None:
        """Start it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        blob, queue, table = self._ports
        ports = ["--blobPort", blob, "--queuePort", queue, "--tablePort", table]
        storage = ["--location", self._folder] if self._durable else ["--inMemoryPersistence"]
        loaded = [LEASES] if self._durable else [LEASES, MEMORY]
        node = shutil.which("node")
        if not node:
            raise PartFailed("Azurite needs Node.js, and there is no node on the PATH")
        self.process.start(
            [node, *(option for script in loaded for option in ("--require", script)), self._script,
             *map(str, ports), *map(str, storage), "--skipApiVersionCheck", "--silent", "--disableTelemetry"],
            {"AZURITE_ACCOUNTS": ";".join(f"{name}:{key}" for name, key in self._accounts.items())},
        )  # fmt: skip

    def ready(self) -> None:
        """Wait until both services take connections."""
        blob, _, table = self._ports
        self.process.until(lambda: listening(blob) and listening(table), READY_SECONDS)

    def stop(self) -> None:
        """End it; it writes what it holds to disk first."""
        self.process.stop(15)
