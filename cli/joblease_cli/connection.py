"""Which API server and which namespace are meant, as kubectl understands kubeconfigs, options and environment.

That is --kubeconfig, else the files of KUBECONFIG, else ~/.kube/config, and in a pod without any its service account.
Whatever is wrong there is said as such; nothing is sent yet.
"""

import logging
import os
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import urllib3
from joblease.kubeconfig import DEFAULT, Merged, Unusable, merged, proxy_for
from joblease.limits import DNS_LABEL
from kubernetes import client, config
from kubernetes.config import kube_config

from joblease_cli.failures import CommandError, Exit
from joblease_cli.kube import JobRequests

URL_VARIABLE = "JOBLEASE_DASHBOARD_URL"
_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_ABOUT_PLUGINS = "https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins"


def meant_by(options: Namespace) -> JobRequests:
    """The jobs of the cluster and namespace that a command's options mean. Raises `CommandError`."""
    return connect(options.kubeconfig, options.context, options.namespace, options.request_timeout or None)


def connect(kubeconfig: str | None, context: str | None, namespace: str | None, timeout: float | None) -> JobRequests:
    """The jobs of the cluster and namespace that the options mean. A timeout of None is no bound."""
    if namespace and not DNS_LABEL.fullmatch(namespace):
        raise CommandError(f"--namespace {namespace!r}: small letters, a to z, digits and -, 63 at most", Exit.REFUSED)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # its retries are reported once, by the error in the end
    configuration = client.Configuration()
    configuration.proxy = None  # the kubeconfig's or none: the environment is read below, as kubectl reads it
    path = files_of(kubeconfig)
    in_pod = not kubeconfig and not context and "KUBERNETES_SERVICE_HOST" in os.environ
    try:
        if in_pod and not any(Path(each).expanduser().is_file() for each in path.split(os.pathsep)):
            config.load_incluster_config(client_configuration=configuration)
            default = _pod_namespace()
        else:
            found = _chosen(path, context)
            _load(found, configuration)
            default = found.namespace
        configuration.proxy = proxy_for(configuration.host, configuration.proxy)
        configuration.no_proxy = None
        configuration.retries = urllib3.Retry(total=1, backoff_factor=0.2)
        api = client.ApiClient(configuration)
    except CommandError:
        raise
    except Exception as error:  # the library raises anything over a kubeconfig that is not as it expects
        expected = isinstance(error, Unusable | OSError | config.ConfigException)
        raise CommandError(
            f"no usable kubeconfig ({path}{f', context {context}' if context else ''}): "
            f"{error if expected else f'it cannot be read as one ({error})'}. Set KUBECONFIG or pass --kubeconfig",
            Exit.REFUSED,
        ) from error
    return JobRequests(api, namespace or default, timeout)


def files_of(kubeconfig: str | None) -> str:
    """The kubeconfig that counts, as a `KUBECONFIG`."""
    return kubeconfig or os.environ.get("KUBECONFIG") or DEFAULT


def _pod_namespace() -> str:
    file = _POD_NAMESPACE.read_text().strip() if _POD_NAMESPACE.is_file() else ""
    return os.environ.get("POD_NAMESPACE") or file or "default"


def _chosen(path: str, context: str | None) -> Merged:
    found = merged(path, context)
    there = f"it has the contexts {', '.join(found.contexts)}" if found.contexts else "it has no contexts"
    if not found.context:
        raise Unusable(f"no current context is set; choose one with --context ({there})")
    if found.context not in found.contexts:
        raise Unusable(f"there is no context {found.context!r} ({there})")
    return found


def _load(found: Merged, configuration: Any) -> None:
    with _errors() as logged:
        loader = kube_config._get_kube_config_loader(  # noqa: SLF001 - the public function does not tell about plug-ins
            found.files, active_context=found.context, persist_config=False
        )
        loader.load_and_set(configuration)
    user = loader._user  # noqa: SLF001
    if user and "exec" in user and not (configuration.api_key or configuration.cert_file):
        raise _plugin_failed(loader.current_context["context"]["user"], user["exec"].value, "; ".join(logged))


def _plugin_failed(user: str, plugin: dict[str, Any], said: str) -> CommandError:
    if "No such file" in said or "Permission denied" in said:
        hint = str(plugin.get("installHint") or "")
        said = f"exec: executable {plugin['command']} not found. {hint} About credential plug-ins: {_ABOUT_PLUGINS}"
    text = f"user {user!r} of the kubeconfig has no credentials: {said or 'its credential plug-in said nothing'}"
    return CommandError(" ".join(text.split()), Exit.UNAVAILABLE)


@contextmanager
def _errors() -> Iterator[list[str]]:
    """What the library logs as errors instead of raising it."""
    logged: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: logged.append(record.getMessage())  # type: ignore[method-assign]
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield logged
    finally:
        root.removeHandler(handler)
