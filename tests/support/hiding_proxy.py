"""A reverse proxy before an API server that has just been started: it serves JobRequests, and does not say so yet."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from ssl import create_default_context

import yaml
from aiohttp import ClientSession, ClientTimeout, TCPConnector, web
from joblease.jobrequest import GROUP

_HOP = ("content-length", "transfer-encoding", "connection")


class HidingProxy:
    """Leaves JobLease's group out of the list of groups for requests that `hides` is true of."""

    def __init__(self, hides: Callable[[Mapping[str, str]], bool]) -> None:
        """`hides` is given a request's headers."""
        self.hides = hides
        self.hidden = 0

    @asynccontextmanager
    async def before(self, kubeconfig: Path, folder: Path) -> AsyncIterator[Path]:
        """Between a kubeconfig with a token and its API server; gives a kubeconfig that leads here."""
        config = yaml.safe_load(await asyncio.to_thread(kubeconfig.read_text))
        cluster = config["clusters"][0]["cluster"]
        tls = create_default_context(cafile=cluster["certificate-authority"])
        connector, server = TCPConnector(ssl=tls), cluster["server"]
        async with ClientSession(
            server, connector=connector, timeout=ClientTimeout(None), auto_decompress=False
        ) as api:
            app = web.Application(client_max_size=1 << 24)

            async def forward(request: web.Request) -> web.StreamResponse:
                return await self._forward(api, request)

            app.router.add_route("*", "/{path:.*}", forward)
            runner = web.AppRunner(app, shutdown_timeout=1)
            await runner.setup()
            try:
                site = web.TCPSite(runner, "127.0.0.1", 0)
                await site.start()
                config["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{runner.addresses[0][1]}"}
                changed = folder / "hiding.kubeconfig"
                await asyncio.to_thread(changed.write_text, yaml.safe_dump(config))
                yield changed
            finally:
                await runner.cleanup()

    async def _forward(self, api: ClientSession, request: web.Request) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() != "host"}
        body = await request.read()
        if request.path.rstrip("/") == "/apis" and self.hides(request.headers):
            self.hidden += 1
            async with api.get("/apis", headers={"Authorization": headers.get("Authorization", "")}) as plain:
                listed = await plain.json()
            listed["groups"] = [each for each in listed["groups"] if each["name"] != GROUP]
            return web.json_response(listed)
        async with api.request(request.method, request.path_qs, headers=headers, data=body or None) as found:
            kept = {name: value for name, value in found.headers.items() if name.lower() not in _HOP}
            answer = web.StreamResponse(status=found.status, headers=kept)
            await answer.prepare(request)
            async for part in found.content.iter_any():
                await answer.write(part)
            await answer.write_eof()
            return answer
