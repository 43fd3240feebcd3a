"""Requests that are made by hand are signed and retried by the SDK, and pass through nothing else of it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.data.tables.aio import TableServiceClient
from azure.storage.blob.aio import BlobServiceClient
from joblease.pipeline import LEFT_OUT, shortened
from joblease.settings import AZURITE_CONNECTION_STRING, StorageSettings
from joblease.storage import Storage
from pydantic import SecretStr

SIGNATURE = "sv=2024-11-04&sig=x"
SHARED = ";BlobEndpoint=https://a.blob.core.windows.net;TableEndpoint=https://a.table.core.windows.net"
URL = "https://account.blob.core.windows.net"


class Identity:
    """Stands for `DefaultAzureCredential`, which asks nobody before the first request."""

    async def get_token(self, *_: str, **__: Any) -> AccessToken:
        raise AssertionError("no request is made here")

    async def close(self) -> None:
        """There is nothing to close."""


def policies(client: Any) -> list[str]:
    return [type(getattr(each, "_policy", each)).__name__ for each in shortened(client)._impl_policies]


def whole(client: Any) -> list[str]:
    return [type(getattr(each, "_policy", each)).__name__ for each in client._client._client._pipeline._impl_policies]


@pytest.fixture(params=["key", "signature", "identity"])
async def storage(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[str, Storage]]:
    texts = {"key": AZURITE_CONNECTION_STRING, "signature": f"SharedAccessSignature={SIGNATURE}{SHARED}"}
    monkeypatch.setattr("joblease.storage._identity", Identity)
    if request.param in texts:
        settings = StorageSettings(storage_connection_string=SecretStr(texts[request.param]))
    else:
        settings = StorageSettings(storage_account_url=URL)
    async with Storage(settings) as opened:
        yield request.param, opened


async def test_what_is_left_of_the_pipelines(storage: tuple[str, Storage]) -> None:
    """A release that has another policy, or another name for one, is to be looked at."""
    kind, opened = storage
    of_tables = {
        "key": "SharedKeyCredentialPolicy",
        "signature": "AzureSasCredentialPolicy",
        "identity": "AsyncBearerTokenChallengePolicy",
    }
    of_blobs = {  # a signature is in the URL
        "key": ["SharedKeyCredentialPolicy"],
        "identity": ["AsyncStorageBearerTokenCredentialPolicy"],
    }
    assert policies(opened.table("x")) == [
        *("RequestIdPolicy", "StorageHeadersPolicy", "UserAgentPolicy"),
        of_tables[kind],
        "AsyncTablesRetryPolicy",
    ]
    assert policies(opened.locks()) == [
        *("UserAgentPolicy", "ExponentialRetry", "StorageHeadersPolicy"),
        *of_blobs.get(kind, []),
    ]


async def test_each_policy_that_is_left_out_is_one_of_the_sdk() -> None:
    async with (
        TableServiceClient.from_connection_string(AZURITE_CONNECTION_STRING) as tables,
        BlobServiceClient.from_connection_string(AZURITE_CONNECTION_STRING) as blobs,
    ):
        known = {*whole(tables.get_table_client("x")), *whole(blobs.get_container_client("x"))}
    assert known >= LEFT_OUT


async def test_the_client_goes_on_with_its_own_pipeline(storage: tuple[str, Storage]) -> None:
    for client in (storage[1].table("x"), storage[1].locks()):
        before = whole(client)
        order = [each.next for each in client._client._client._pipeline._impl_policies]
        shortened(client)
        assert whole(client) == before
        assert [each.next for each in client._client._client._pipeline._impl_policies] == order
