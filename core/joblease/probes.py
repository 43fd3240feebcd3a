"""`/metrics`, `/healthz` and `/readyz` of each program, on a port of their own.

Served by threads of their own, so that metrics can be read whatever the program is doing. That alone would call a
program healthy whose event loop hangs for ever: so the loop has to show that it runs, and when it has not for a minute,
`/healthz` says so and the kubelet starts the program anew. It does the same when a task has ended that the program
cannot do without and that nobody starts again.
"""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import make_wsgi_app

from joblease.listening import listening

if TYPE_CHECKING:
    from joblease.settings import ProgramSettings

Problems = Callable[[], list[str]]

BEAT_SECONDS = 1.0
STUCK_SECONDS = 60.0


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, listener: socket.socket) -> None:
        address = listener.getsockname()[:2]
        super().__init__(address, _Quiet, bind_and_activate=False)
        self.socket.close()  # it made one of its own, which knows IPv4 alone
        self.socket = listener
        self.server_name, self.server_port = address
        self.setup_environ()


class _Quiet(WSGIRequestHandler):
    timeout = 10  # a client that connects and says nothing must not keep a thread

    def log_message(self, *_: Any) -> None:
        """Probes come every few seconds; their lines would bury the jobs' lines."""


class Probes:
    """The server, made on the event loop that it watches.

    `problems` lists what keeps the program from being ready (empty: ready), `dead` what only a new start can help with.
    """

    def __init__(
        self,
        settings: "ProgramSettings",
        problems: Problems,
        stuck_seconds: float = STUCK_SECONDS,
        dead: Problems = list,
    ) -> None:
        self._beat()
        self._stuck_seconds = stuck_seconds
        metrics: Callable[..., Iterable[bytes]] = make_wsgi_app()

        def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            path = environ["PATH_INFO"]
            if path == "/metrics":
                return metrics(environ, start_response)
            if path not in ("/healthz", "/readyz"):
                start_response("404 Not Found", [("Content-Type", "text/plain")])
                return [b"not found\n"]
            found = [*self._stuck(), *dead(), *(problems() if path == "/readyz" else [])]
            start_response("503 Service Unavailable" if found else "200 OK", [("Content-Type", "text/plain")])
            return ["\n".join([*found, ""]).encode() if found else b"ok\n"]

        self._server = _Server(listening(settings.metrics_host, settings.metrics_port))
        self._server.set_app(app)
        self.port: int = self._server.server_port
        threading.Thread(target=self._server.serve_forever, name="probes", daemon=True).start()

    def _beat(self) -> None:
        self._last_beat = time.monotonic()
        self._next_beat = asyncio.get_running_loop().call_later(BEAT_SECONDS, self._beat)

    def _stuck(self) -> list[str]:
        silence = time.monotonic() - self._last_beat
        return [f"the event loop has not run for {silence:.0f} s"] if silence > self._stuck_seconds else []

    def close(self) -> None:
        """Stop serving and free the port."""
        self._next_beat.cancel()
        self._server.shutdown()
        self._server.server_close()
