"""The emulator keeps its word over a restart, as Azure would: a lease is its holder's until its time is over."""

import base64
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from azure.core.exceptions import ResourceExistsError
from azure.storage.blob import BlobClient, BlobLeaseClient, BlobServiceClient
from joblease_local.azurite import Azurite, require_azurite
from joblease_local.ports import free_ports
from support.parts import CACHE, need, say

ACCOUNT = "restarts"


@pytest.fixture
def azurite(tmp_path: Path) -> Iterator[Azurite]:
    script = need(lambda: require_azurite(CACHE / "azurite", say))
    blob, queue, table = free_ports(3)
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    emulator = Azurite(script, tmp_path, (blob, queue, table), {ACCOUNT: key})
    try:
        emulator.start()
        emulator.ready()
        yield emulator
    finally:
        emulator.stop()


def restart(azurite: Azurite) -> None:
    azurite.stop()
    azurite.start()
    azurite.ready()


def blob(azurite: Azurite, name: str) -> BlobClient:
    locks = BlobServiceClient.from_connection_string(azurite.connection_string(ACCOUNT)).get_container_client("locks")
    if not locks.exists():
        locks.create_container()
    return locks.get_blob_client(name)


def test_a_lease_outlives_a_restart(azurite: Azurite) -> None:
    held = blob(azurite, "held")
    held.upload_blob(b"")
    lease = BlobLeaseClient(held)
    lease.acquire(60)
    restart(azurite)
    assert held.get_blob_properties().lease.state == "leased"
    with pytest.raises(ResourceExistsError, match="LeaseAlreadyPresent"):
        BlobLeaseClient(held).acquire(15)
    lease.renew()
    lease.release()
    BlobLeaseClient(held).acquire(15)


def test_a_lease_that_is_being_broken_is_free_only_when_its_time_is_over(azurite: Azurite) -> None:
    broken = blob(azurite, "broken")
    broken.upload_blob(b"")
    lease = BlobLeaseClient(broken)
    lease.acquire(60)
    lease.break_lease(60)
    restart(azurite)
    assert broken.get_blob_properties().lease.state == "breaking"
    with pytest.raises(ResourceExistsError, match=r"LeaseAlreadyPresent|LeaseIsBreaking"):
        BlobLeaseClient(broken).acquire(15)


def test_a_lease_ends_in_its_time_after_a_restart(azurite: Azurite) -> None:
    """The shortest lease: what is left of it is waited out."""
    ending = blob(azurite, "ending")
    ending.upload_blob(b"")
    BlobLeaseClient(ending).acquire(15)
    restart(azurite)
    while ending.get_blob_properties().lease.state == "leased":  # for 15 s at most; the test's timeout ends it
        time.sleep(0.2)
    BlobLeaseClient(ending).acquire(15)
