"""How kopf watches `JobRequest`s.

kopf is used for what is hard to get right about watching (reconnecting, bookmarks, expired versions, streams that go
silent) and for nothing else: the handler is a raw event handler, so that kopf neither annotates nor finalizes the
resources, and each job costs only the writes that it is worth.

It watches the cluster that everything else here reads and writes, as the same user and by the same proxy: its login is
made from the configuration of our own client.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import kopf
from joblease.jobrequest import GROUP, PLURAL, VERSION
from joblease.kube import configure

from joblease_operator.kube import PAGE

if TYPE_CHECKING:
    from joblease_operator.engine import Engine


class _NoComparison(kopf.DiffBaseStorage):
    """Keeps kopf from copying each resource at each event: only handlers of changes compare, and there are none."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        pass


def watching(engine: "Engine", on_end: Callable[[], None]) -> tuple[kopf.OperatorRegistry, kopf.OperatorSettings]:
    """What kopf calls, and how it watches.

    `on_end` is called as soon as kopf ends, by a signal or an error. It would wait five seconds for tasks that it does
    not know, and they would work on meanwhile, beside their successors in another pod.

    The handlers are coroutines, although they wait for nothing: kopf would call a function in a thread, and the engine
    belongs to the event loop.
    """
    registry, settings = kopf.OperatorRegistry(), kopf.OperatorSettings()
    settings.persistence.finalizer = "joblease.dev/kopf"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix="joblease.dev")
    settings.persistence.diffbase_storage = _NoComparison()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.queueing.idle_timeout = 0.1  # a task and a queue for each object; our handler leaves nothing to them
    settings.watching.chunk_size = PAGE
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.watching.connect_timeout = 15
    settings.watching.inactivity_timeout = 90

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        return await _login()

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def observe(type: str | None, body: kopf.Body, **_: Any) -> None:  # noqa: A002 - kopf calls it so
        engine.observe(type, dict(body))

    @kopf.on.cleanup(registry=registry)
    async def end(**_: Any) -> None:
        on_end()

    return registry, settings


async def _login() -> kopf.ConnectionInfo:
    """As `joblease.kube.connect`. kopf asks again when the credentials end, and when they are refused."""
    configuration, expires = await configure()
    if configuration.tls_server_name:
        raise kopf.PermanentError("tls-server-name in the kubeconfig is not supported by the operator's watch")
    scheme, _, token = str(configuration.api_key.get("BearerToken", "")).partition(" ")
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        scheme=scheme or None,
        token=token or None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        proxy_url=configuration.proxy,
        expiration=datetime.fromtimestamp(expires, UTC) if expires else None,
    )
