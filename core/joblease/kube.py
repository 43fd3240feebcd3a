"""The connection to the API server, for the programs that have one."""

import os
from typing import Any
from urllib.request import getproxies

from kubernetes.aio import client, config


async def connect() -> Any:
    """An `ApiClient` with the pod's service account, or else with the kubeconfig. Close it with `close()`.

    Raises `ConfigException` when there is neither.
    """
    configuration = client.Configuration()
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        config.load_incluster_config(client_configuration=configuration)
    else:
        await config.load_kube_config(config_file=os.environ.get("KUBECONFIG"), client_configuration=configuration)
    # Without proxies there is nothing to learn from the environment, and aiohttp reads ~/.netrc for each request.
    configuration.client_session_kwargs = {"trust_env": bool(getproxies())}
    return client.ApiClient(configuration)
