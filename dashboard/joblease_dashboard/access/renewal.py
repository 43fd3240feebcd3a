"""Sessions whose tokens are renewed before they expire.

By one replica at a time: a refresh token may be good only once.
"""

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from joblease_dashboard.access.claims import kept_of
from joblease_dashboard.access.oidc import Issuer, Refused
from joblease_dashboard.access.once import Once
from joblease_dashboard.problems import Problem

if TYPE_CHECKING:
    from joblease_dashboard.access.sessions import Kept, Sessions
    from joblease_dashboard.settings import DashboardSettings

PATIENCE_SECONDS = 5.0
"""How long a request whose token has expired waits for another replica to renew it."""
POLL_SECONDS = 0.25
log = logging.getLogger(__name__)


class Renewal:
    """Who is signed in, with a token that is good. Every method raises `AzureError`."""

    def __init__(self, settings: "DashboardSettings", sessions: "Sessions", issuer: Issuer | None) -> None:
        self._settings = settings
        self._sessions = sessions
        self._issuer = issuer
        self._renewals: Once[Kept | None] = Once()

    async def current(self, session: str) -> "Kept | None":
        """What a session stands for, or None when it has ended. Raises `Problem` when the issuer does not answer."""
        kept = await self._sessions.read(session)
        if kept is None or time.time() < kept.renew_at:
            return kept
        return await self._renewals.do(session, lambda: self._renewed(session))

    async def _renewed(self, session: str) -> "Kept | None":
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            kept = await self._sessions.read(session, anew=True)
            if kept is None or time.time() < kept.renew_at:
                return kept
            if not kept.refresh_token or self._issuer is None:
                await self._sessions.end(session)
                return None
            if claimed := await self._sessions.claim(session):
                return await self._renew(session, claimed, self._issuer)
            if time.time() < kept.expires:
                return kept
            if time.monotonic() > deadline:
                raise Problem(503, "Your sign-in is being renewed", "the OIDC issuer has not answered yet; try again")
            await asyncio.sleep(POLL_SECONDS)

    async def _renew(self, session: str, kept: "Kept", issuer: Issuer) -> "Kept | None":
        try:
            renewed = kept_of(await issuer.refresh(kept.refresh_token, kept.subject), self._settings)
        except Refused as refused:
            log.info("a session ends: %s", refused)
            await self._sessions.end(session)
            return None
        except Problem:
            if time.time() < kept.expires:
                return kept
            raise
        return renewed if await self._sessions.replace(session, renewed) else None
