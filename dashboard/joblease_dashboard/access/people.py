"""People who sign in from a browser, with a token of their own or with an OpenID Connect issuer: in, here, and out."""

from typing import TYPE_CHECKING

from starlette.responses import RedirectResponse, Response

from joblease_dashboard.access import flow, sessions
from joblease_dashboard.access.identity import Identity
from joblease_dashboard.access.oidc import Issuer
from joblease_dashboard.access.renewal import Renewal
from joblease_dashboard.access.sessions import Kept, Sessions
from joblease_dashboard.problems import Problem

if TYPE_CHECKING:
    from starlette.requests import Request

    from joblease_dashboard.access.cluster import Cluster
    from joblease_dashboard.settings import DashboardSettings


class People:
    """Every method raises `AzureError`, and `Problem` when the API server or the issuer does not answer."""

    def __init__(self, settings: "DashboardSettings", cluster: "Cluster | None", kept: Sessions) -> None:
        self._cluster = cluster
        self._sessions = kept
        issuer = Issuer(settings) if settings.dashboard_oidc_issuer else None
        self._flow = flow.Flow(settings, kept, issuer) if issuer else None
        self._renewal = Renewal(settings, kept, issuer)

    @property
    def have_issuer(self) -> bool:
        """Whether they may sign in with an issuer."""
        return self._flow is not None

    def known(self, request: "Request") -> bool:
        """Whether `current` can tell without asking storage."""
        return self._sessions.knows(sessions.name_of(request))

    async def current(self, request: "Request") -> Identity | None:
        """Who is signed in. A session ends when the API server does not accept its token."""
        session = sessions.name_of(request)
        kept = await self._renewal.current(session)
        found = await self._person(kept) if kept else None
        if kept and found is None:
            await self._sessions.end(session)
        return found

    async def sign_in(self, request: "Request", token: str, response: Response) -> bool:
        """Put a session into the response when the token is somebody's."""
        kept = Kept(token=token)
        if not token or await self._person(kept) is None:
            return False
        await self._sessions.begin(request, response, kept)
        return True

    async def begin(self, request: "Request", target: str) -> Response:
        """Send the browser to the issuer; in the end it goes to `target`, a path of ours."""
        return await self._issuer_flow().begin(request, target)

    async def finish(self, request: "Request") -> Response:
        """Sign in whom the issuer has sent back."""
        kept, target = await self._issuer_flow().finish(request)
        if await self._person(kept) is None:
            raise Problem(403, "Sign-in failed", "the API server does not accept the issuer's ID tokens")
        response = RedirectResponse(target, 303)
        flow.forget(request, response)
        await self._sessions.begin(request, response, kept)
        return response

    async def sign_out(self, request: "Request", response: Response) -> None:
        """End the session, on all replicas."""
        sessions.forget(response)
        await self._sessions.end(sessions.name_of(request))

    async def _person(self, kept: Kept) -> Identity | None:
        if kept.token:
            return await self._cluster.who(kept.token) if self._cluster else None
        return Identity(kept.user, kept.groups, impersonated=True)

    def _issuer_flow(self) -> flow.Flow:
        if self._flow is None:
            raise Problem(404, "Not Found", "no OIDC issuer is set here: sign in with a token at /login")
        return self._flow
