"""Who may come in, and what they may see and do.

Every request but the open ones has an identity before a route sees it (`guard`). Every route asks for the right that it
needs (`Access.require`): Kubernetes' own RBAC on `jobrequests` answers. A request that changes something must come from
the dashboard's own pages (browsers say where a request comes from and pages cannot forge that) or carry a token.
"""

import contextlib
import hmac
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from azure.core.exceptions import AzureError
from starlette.requests import Request
from starlette.responses import Response

from joblease_dashboard.access import addresses
from joblease_dashboard.access.cluster import Cluster
from joblease_dashboard.access.identity import ANYBODY, RESERVED, Identity, bearer, identity
from joblease_dashboard.access.limits import RateLimit, TooManyAtOnce, Turns
from joblease_dashboard.access.people import People
from joblease_dashboard.access.sessions import Sessions
from joblease_dashboard.problems import Problem
from joblease_dashboard.settings import LOOPBACK

if TYPE_CHECKING:
    from joblease_dashboard.settings import DashboardSettings

PROXY_SECRET_HEADER = "x-joblease-proxy-secret"  # noqa: S105 - its name
SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")
CHANGES = ("create", "patch")
LOGINS_PER_MINUTE = 10
REVIEWS_PER_SECOND = 10
"""Tokens and sessions that one address may present anew: each is a request to the API server or to storage."""
BURST_SECONDS = 10
AT_ONCE, WAITING = 8, 200
"""Requests of one user at one address that are answered at once, and that wait for that. A browser sends six."""


class Access:
    """Recognises people, and asks what they may do."""

    def __init__(self, settings: "DashboardSettings", cluster: Cluster | None, sessions: Sessions) -> None:
        self.mode = settings.dashboard_access
        self.can_act = cluster is not None and settings.dashboard_actions
        self._settings = settings
        self._cluster = cluster
        self._people = People(settings, cluster, sessions)
        self.has_issuer = self._people.have_issuer
        """Whether people may sign in with an OIDC issuer."""
        self._logins, self._begun = (RateLimit(LOGINS_PER_MINUTE / 60, LOGINS_PER_MINUTE) for _ in range(2))
        self._reviews = RateLimit(REVIEWS_PER_SECOND, REVIEWS_PER_SECOND * BURST_SECONDS)
        self._turns = Turns(AT_ONCE, WAITING)
        rate = settings.dashboard_requests_per_second
        self._requests = RateLimit(rate, rate * BURST_SECONDS)

    async def identify(self, request: Request) -> Identity | None:
        """Who asks, or None. Raises `Problem`, also when too much is made up that has to be looked up."""
        if self.mode == "kubernetes" and self._cluster:
            token = bearer(request)
            if not (self._cluster.knows(token) if token else self._people.known(request)):
                self.check_rate(self._reviews, request)
        return await self._recognise(request)

    async def still_allows(self, request: Request, verb: str, namespace: str) -> bool:
        """Whether the one who asked some time ago is still there, and still allowed to; False when nobody can tell."""
        try:
            request.state.identity = found = await self._recognise(request)
            return found is not None and await self.allows(request, verb, namespace)
        except Problem:
            return False

    async def _recognise(self, request: Request) -> Identity | None:
        if self.mode == "none":
            return ANYBODY
        if self.mode == "proxy":
            return self._from_proxy(request)
        if self._cluster is None:
            return None
        if token := bearer(request):
            return await self._cluster.who(token)
        try:
            return await self._people.current(request)
        except AzureError:
            raise Problem(503, "Storage does not answer", "sessions cannot be read at the moment; try again") from None

    def _from_proxy(self, request: Request) -> Identity | None:
        secret = self._settings.dashboard_proxy_secret
        given = _last(request, PROXY_SECRET_HEADER).encode()
        if secret is None or not hmac.compare_digest(given, secret.get_secret_value().encode()):
            return None
        if not addresses.trusts(_peer(request), self._settings.dashboard_trusted_proxies):
            return None
        user = _last(request, self._settings.dashboard_user_header)
        groups = _last(request, self._settings.dashboard_groups_header).split(",")
        names = tuple(each.strip() for each in groups if each.strip())
        if any(name.startswith(RESERVED) for name in (user, *names)):
            raise Problem(403, "Not allowed", f"names that begin with {RESERVED} are Kubernetes' own")
        return Identity(user, names, impersonated=True) if user else None

    async def require(self, request: Request, verb: str, namespace: str) -> None:
        """Raise `Problem` unless the one who asks may do this to jobs of the namespace ("": of all)."""
        if not await self.allows(request, verb, namespace):
            where = f"namespace {namespace!r}" if namespace else "all namespaces"
            hint = "" if namespace else "; name one that you may see: ?namespace=…"
            raise Problem(403, "Not allowed", f"{identity(request).user} may not {verb} jobrequests in {where}{hint}")

    async def allows(self, request: Request, verb: str, namespace: str) -> bool:
        """Whether the one who asks may do this."""
        if verb in CHANGES and not self._settings.dashboard_actions:
            return False
        if self.mode == "none":
            return True
        return self._cluster is not None and await self._cluster.may(identity(request), verb, namespace)

    async def sign_in(self, request: Request, token: str, response: Response) -> bool:
        """Put a session into the response when the token is somebody's. Raises `Problem`."""
        self.check_rate(self._logins, request)
        return self.mode == "kubernetes" and await self._people.sign_in(request, token, response)

    async def begin_oidc(self, request: Request, target: str) -> Response:
        """Send the browser to the issuer; in the end it goes to `target`, a path of ours. Raises `Problem`."""
        self.check_rate(self._begun, request)
        return await self._people.begin(request, target)

    async def finish_oidc(self, request: Request) -> Response:
        """Sign in whom the issuer has sent back. Raises `Problem`."""
        self.check_rate(self._logins, request)
        return await self._people.finish(request)

    async def sign_out(self, request: Request, response: Response) -> None:
        """End the session, on all replicas. Raises `AzureError`."""
        await self._people.sign_out(request, response)

    def check_rate(self, limit: RateLimit, request: Request, user: str = "") -> None:
        """Raise `Problem` when somebody asks too often."""
        wait = limit.wait(f"{addresses.measured(self.address(request))} {user}")
        if wait:
            raise Problem(429, "Too many requests", f"try again in {wait:.0f} s", retryAfterSeconds=round(wait, 1))

    def check_everybody(self, request: Request, user: str) -> None:
        """Raise `Problem` when this user at this address asks too often."""
        self.check_rate(self._requests, request, user)

    @contextlib.asynccontextmanager
    async def turn(self, request: Request, user: str) -> AsyncIterator[None]:
        """To be answered, among what else this user at this address asks for. Raises `Problem` when it is too much."""
        try:
            async with self._turns.take(f"{addresses.measured(self.address(request))} {user}"):
                yield
        except TooManyAtOnce:
            raise Problem(429, "Too many requests", "too many at once: try again in 1 s", retryAfterSeconds=1) from None

    def check_origin(self, request: Request) -> None:
        """Refuse a change that another site's page asks for. Raises `Problem`."""
        if request.method in SAFE or (self.mode == "kubernetes" and bearer(request)):
            return  # a page cannot make a browser send a token, unlike what a browser or a proxy adds by itself
        site = request.headers.get("sec-fetch-site")
        origin = urlsplit(request.headers.get("origin", "")).netloc
        if site == "same-origin" or (site is None and origin and origin == request.headers.get("host")):
            return
        hint = ", and it carries no token (Authorization: Bearer …)" if self.mode == "kubernetes" else ""
        raise Problem(403, "Wrong origin", f"this change was not asked for by a page of this dashboard{hint}")

    def address(self, request: Request) -> str:
        """Where a request comes from: the first address before the trusted proxies, or whoever connected."""
        forwarded = request.headers.getlist("x-forwarded-for")
        return addresses.client(_peer(request), forwarded, self._settings.dashboard_trusted_proxies)

    def check_host(self, request: Request) -> None:
        """Without sign-in, a foreign name that leads here is an attack by somebody else's page (DNS rebinding)."""
        if self.mode == "none" and self._settings.dashboard_host in LOOPBACK:
            name = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
            if name not in LOOPBACK:
                raise Problem(421, "Wrong host", f"this dashboard is for this machine alone; it is not {name!r}")


def _peer(request: Request) -> str:
    return request.client.host if request.client else ""


def _last(request: Request, name: str) -> str:
    """The last header of a name, which is the nearest proxy's; UTF-8, as Kubernetes' names are."""
    values = request.headers.getlist(name)
    return values[-1].encode("latin-1").decode("utf-8", "replace").strip() if values else ""
