"""The connection to the API server, for the programs that have one."""

import asyncio
import os
import time
from typing import Any

from kubernetes.aio import client, config
from kubernetes.aio.config import ConfigException

from joblease.kubeconfig import Unusable, merged, proxy_for

REFRESH_SECONDS = 60.0
"""How often a token is looked for anew that does not tell when it expires. (kubectl would wait for a 401.)"""
EARLY_SECONDS = 300.0
"""How long before its end the library does not use a token any more."""


async def connect() -> Any:
    """An `ApiClient` with the pod's service account, or else with the kubeconfig. Close it with `close()`.

    Raises `ConfigException` when there is neither, or when it cannot be used.
    """
    return client.ApiClient((await configure())[0])


async def configure() -> tuple[Any, float | None]:
    """A `Configuration` with fresh credentials, and the time (Unix) when these end, if they tell. Raises as `connect`.

    It keeps its credentials fresh by itself, also those of exec plug-ins and of token files.
    """
    configuration, expires = client.Configuration(), None
    try:
        if os.environ.get("KUBERNETES_SERVICE_HOST"):
            config.load_incluster_config(client_configuration=configuration)
        else:
            expires = await _load(configuration)
            _keep_fresh(configuration, expires)
        configuration.proxy = proxy_for(configuration.host, configuration.proxy)
    except (Unusable, OSError) as error:
        raise ConfigException(str(error)) from None
    # The proxy is known by now. And aiohttp would read ~/.netrc for each request.
    configuration.client_session_kwargs = {"trust_env": False}
    return configuration, expires


async def _load(configuration: Any) -> float | None:
    files, context, *_ = merged(os.environ.get("KUBECONFIG"))
    loader = await config.load_kube_config(
        config_file=files, context=context, client_configuration=configuration, persist_config=False
    )
    user = loader._user  # noqa: SLF001 - it goes on without credentials when a plug-in fails, and does not tell
    if user and "exec" in user and not (configuration.api_key or configuration.cert_file):
        name = loader.current_context["context"]["user"]
        raise Unusable(f"the exec plug-in of user {name} in {files} gave no credentials; the log above says why")
    expiry = getattr(loader, "exec_plugin_expiry", None)
    return expiry.timestamp() if expiry else None


def _keep_fresh(configuration: Any, expires: float | None) -> None:
    if not configuration.api_key:
        return  # certificates, or nothing
    one_at_a_time = asyncio.Lock()

    def due(end: float | None) -> float:
        return end - EARLY_SECONDS if end else time.time() + REFRESH_SECONDS

    until = due(expires)

    async def refresh(used: Any) -> None:
        nonlocal until
        async with one_at_a_time:
            if time.time() >= until:
                fresh = client.Configuration()
                until = due(await _load(fresh))
                used.api_key = fresh.api_key

    configuration.refresh_api_key_hook = refresh
