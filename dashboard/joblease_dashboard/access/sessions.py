"""Who is signed in: a random id in the browser, and what it stands for in the table `JobSessions`.

The row holds what is needed to act for the person, encrypted with the session key; its name is a hash of the id. So
neither the browser nor the table alone is of use to anybody, all replicas know the session, and signing out ends it
everywhere.
"""

import hashlib
import json
import math
import secrets
import time
from base64 import urlsafe_b64encode
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from azure.core import MatchConditions
from azure.core.exceptions import ResourceModifiedError, ResourceNotFoundError
from azure.data.tables import UpdateMode
from cachetools import TTLCache
from cryptography.fernet import Fernet, InvalidToken
from joblease.messages import now, rfc3339

from joblease_dashboard.access.identity import encrypted
from joblease_dashboard.problems import Problem

if TYPE_CHECKING:
    from azure.data.tables.aio import TableClient
    from starlette.requests import Request
    from starlette.responses import Response

COOKIE, SECURE_COOKIE = "joblease-session", "__Host-joblease-session"
SEEN_SECONDS = 15.0
"""How long a replica goes on with a session that ended at another one."""
REMEMBERED = 10_000
EXPIRED_AT_ONCE = 100
"""Rows of ended sessions that a sign-in clears away."""
CLAIM_SECONDS = 20
"""How long the replica that renews a session's token has for it."""
MOST = 32_000
"""Characters of a property of a table's row."""
_ROW = "session"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a session stands for: a person's token, or the name in which the dashboard asks for them."""

    token: str = field(default="", repr=False)
    user: str = ""
    groups: tuple[str, ...] = ()
    subject: str = ""
    """The OIDC issuer's own name of the person."""
    refresh_token: str = field(default="", repr=False)
    renew_at: float = math.inf
    """From this moment (Unix time) it is renewed, or over."""
    expires: float = math.inf


class Sessions:
    """Sessions that last for `seconds`, unless they are ended before. Every method raises `AzureError`."""

    def __init__(self, table: "TableClient", key: str, seconds: int) -> None:
        self._table = table
        self._secret = Fernet(urlsafe_b64encode(hashlib.sha256(key.encode()).digest()))
        self._seconds = seconds
        self._seen: TTLCache[str, Kept] = TTLCache(REMEMBERED, SEEN_SECONDS)

    def knows(self, session: str) -> bool:
        """Whether `read` can tell without asking storage."""
        return not session or session in self._seen

    async def read(self, session: str, *, anew: bool = False) -> Kept | None:
        """What a session (`name_of`) stands for; as the table has it now with `anew`. None: it has ended."""
        if anew:
            self._seen.pop(session, None)
        kept = self._seen.get(session)
        if kept or not session:
            return kept
        try:
            row = await self._table.get_entity(session, _ROW)
            if row["until"] <= rfc3339(now()):
                return None
            kept = self._seen[session] = _kept(self.unseal(row["token"]))
        except (ResourceNotFoundError, InvalidToken, ValueError):
            return None
        return kept

    async def begin(self, request: "Request", response: "Response", kept: Kept) -> None:
        """Keep what is needed to act for somebody, and give the browser its id. Raises `Problem`."""
        await self._clear()
        session, secure = secrets.token_urlsafe(32), encrypted(request)
        until = rfc3339(now() + timedelta(seconds=self._seconds))
        row = {"PartitionKey": _hash(session), "RowKey": _ROW, "until": until, "claimed": ""}
        await self._table.upsert_entity({**row, "token": self._text(kept)})
        response.set_cookie(
            SECURE_COOKIE if secure else COOKIE, session, httponly=True, secure=secure, samesite="lax",
            max_age=self._seconds,
        )  # fmt: skip

    async def claim(self, session: str) -> Kept | None:
        """What this replica alone is to renew now; None: somebody else does, or has done so."""
        try:
            row = await self._table.get_entity(session, _ROW)
            kept = _kept(self.unseal(row["token"]))
            if row["claimed"] > rfc3339(now()) or time.time() < kept.renew_at:
                return None
            claimed = rfc3339(now() + timedelta(seconds=CLAIM_SECONDS))
            await self._table.update_entity(
                {"PartitionKey": session, "RowKey": _ROW, "claimed": claimed},
                UpdateMode.MERGE, etag=row.metadata["etag"], match_condition=MatchConditions.IfNotModified,
            )  # fmt: skip
        except (ResourceModifiedError, ResourceNotFoundError, InvalidToken, ValueError):
            return None
        return kept

    async def replace(self, session: str, kept: Kept) -> bool:
        """Keep something newer; False when the session has ended meanwhile. Raises `Problem`."""
        row = {"PartitionKey": session, "RowKey": _ROW, "claimed": "", "token": self._text(kept)}
        try:
            await self._table.update_entity(row, UpdateMode.MERGE)
        except ResourceNotFoundError:
            return False
        self._seen[session] = kept
        return True

    async def end(self, session: str) -> None:
        """Forget a session, here and everywhere."""
        if session:
            self._seen.pop(session, None)
            await self._table.delete_entity(session, _ROW)

    def seal(self, text: str) -> str:
        """Encrypted for ourselves and the other replicas."""
        return self._secret.encrypt(text.encode()).decode()

    def unseal(self, text: str, seconds: int | None = None) -> str:
        """What was sealed, in the last `seconds`. Raises `InvalidToken`."""
        return self._secret.decrypt(text.encode(), seconds).decode()

    def _text(self, kept: Kept) -> str:
        text = self.seal(json.dumps(asdict(kept)))
        if len(text) > MOST:
            raise Problem(403, "Sign-in failed", "the token is too large to be kept: it may name too many groups")
        return text

    async def _clear(self) -> None:
        query, parameters = "until lt @now", {"now": rfc3339(now())}
        expired = self._table.query_entities(query, parameters=parameters, results_per_page=EXPIRED_AT_ONCE).by_page()
        async for page in expired:
            async for row in page:
                await self._table.delete_entity(row["PartitionKey"], row["RowKey"])
            break


def name_of(request: "Request") -> str:
    """Of the session of whoever asks, in the table; empty when there is none."""
    session = request.cookies.get(SECURE_COOKIE if encrypted(request) else COOKIE, "")
    return _hash(session) if session else ""


def forget(response: "Response") -> None:
    """Have the browser forget its id."""
    for cookie in (COOKIE, SECURE_COOKIE):
        response.delete_cookie(cookie, httponly=True, samesite="lax", secure=cookie == SECURE_COOKIE)


def _kept(text: str) -> Kept:
    found = json.loads(text)
    return Kept(**{**found, "groups": tuple(found["groups"])})


def _hash(session: str) -> str:
    return hashlib.sha256(session.encode()).hexdigest()
