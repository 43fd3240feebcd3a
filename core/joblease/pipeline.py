"""The short way to storage, for the requests that each job makes.

The Azure SDK passes a request through thirteen policies (tables) or sixteen (blobs). Most of them only look whether
there is something for them to do, and there never is: storage sends no redirects, nobody traces or logs its requests,
answers are read by whoever has asked. They take a third of the processor time that a request costs beside the bare HTTP
exchange. So requests that are made and read by hand go through the SDK's authentication, its headers and its retries
alone, over the client's own connections.

What a client's policies are, and that they can be used once more, is no public interface of the SDK.
`tests/unit/test_pipeline.py` notices when a release changes it. A policy that is not known here is kept.
"""

from copy import copy
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from azure.core.pipeline import AsyncPipeline

if TYPE_CHECKING:
    from azure.core.rest import AsyncHttpResponse, HttpRequest
    from azure.data.tables.aio import TableClient
    from azure.storage.blob.aio import ContainerClient

LEFT_OUT = frozenset(
    {
        "AsyncContentValidationPolicy", "AsyncRedirectPolicy", "AsyncStorageResponseHook", "ContentDecodePolicy",
        "CustomHookPolicy", "DistributedTracingPolicy", "HttpLoggingPolicy", "NetworkTraceLoggingPolicy", "ProxyPolicy",
        "QueueMessagePolicy", "StorageHosts", "StorageLoggingPolicy", "StorageRequestHook",
        "StorageSensitiveHeaderCleanupPolicy",
    }
)  # fmt: skip
"""Names of classes. The transport sees to proxies; `StorageHosts` is for a second location, which nobody reads."""

_pipelines: "WeakKeyDictionary[Any, AsyncPipeline[HttpRequest, AsyncHttpResponse]]" = WeakKeyDictionary()


async def send(client: "TableClient | ContainerClient", request: "HttpRequest") -> "AsyncHttpResponse":
    """Send a request as the client would; the whole answer, whatever its status.

    Raises `AzureError` when there is none, or the request cannot be signed.
    """
    pipeline = _pipelines.get(client)
    if pipeline is None:
        pipeline = _pipelines[client] = shortened(client)
    return (await pipeline.run(request)).http_response


def shortened(client: "TableClient | ContainerClient") -> "AsyncPipeline[HttpRequest, AsyncHttpResponse]":
    """The client's pipeline without the policies that have nothing to do."""
    whole = client._client._client._pipeline  # noqa: SLF001
    policies = (getattr(each, "_policy", each) for each in whole._impl_policies)  # noqa: SLF001
    # Copies, because each knows its successor, and the client goes on with its own.
    return AsyncPipeline(whole._transport, [copy(each) for each in policies if type(each).__name__ not in LEFT_OUT])  # noqa: SLF001
