"""Who is signed in: a random id in the browser, and what it stands for in the table `JobSessions`.

The row holds the person's token, encrypted with the session key; its name is a hash of the id. So neither the browser
nor the table alone is of use to anybody, all replicas know the session, and signing out ends it everywhere.
"""

import hashlib
import secrets
from base64 import urlsafe_b64encode
from datetime import timedelta
from typing import TYPE_CHECKING

from azure.core.exceptions import ResourceNotFoundError
from cachetools import TTLCache
from cryptography.fernet import Fernet, InvalidToken
from joblease.messages import now, rfc3339

from joblease_dashboard.access.identity import encrypted

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
_ROW = "session"


class Sessions:
    """Sessions that last for `seconds`, unless they are ended before. Every method raises `AzureError`."""

    def __init__(self, table: "TableClient", key: str, seconds: int) -> None:
        self._table = table
        self._secret = Fernet(urlsafe_b64encode(hashlib.sha256(key.encode()).digest()))
        self._seconds = seconds
        self._seen: TTLCache[str, str] = TTLCache(REMEMBERED, SEEN_SECONDS)

    def knows(self, request: "Request") -> bool:
        """Whether `token` can tell without asking storage."""
        name = _name(request)
        return not name or name in self._seen

    async def token(self, request: "Request") -> str:
        """The token of whoever is signed in, or nothing."""
        name = _name(request)
        if name and name not in self._seen:
            try:
                row = await self._table.get_entity(name, _ROW)
                if row["until"] > rfc3339(now()):
                    self._seen[name] = self._secret.decrypt(row["token"].encode()).decode()
            except (ResourceNotFoundError, InvalidToken):
                return ""
        return self._seen.get(name, "")

    async def begin(self, request: "Request", response: "Response", token: str) -> None:
        """Keep a token, and give the browser its id."""
        await self._clear()
        session, secure = secrets.token_urlsafe(32), encrypted(request)
        until = rfc3339(now() + timedelta(seconds=self._seconds))
        row = {"PartitionKey": _hash(session), "RowKey": _ROW, "until": until}
        await self._table.upsert_entity({**row, "token": self._secret.encrypt(token.encode()).decode()})
        response.set_cookie(
            SECURE_COOKIE if secure else COOKIE, session, httponly=True, secure=secure, samesite="lax",
            max_age=self._seconds,
        )  # fmt: skip

    async def end(self, request: "Request", response: "Response | None" = None) -> None:
        """Forget a session, here and everywhere."""
        if name := _name(request):
            self._seen.pop(name, None)
            await self._table.delete_entity(name, _ROW)
        if response:
            for cookie in (COOKIE, SECURE_COOKIE):
                response.delete_cookie(cookie, httponly=True, samesite="lax", secure=cookie == SECURE_COOKIE)

    async def _clear(self) -> None:
        query, parameters = "until lt @now", {"now": rfc3339(now())}
        expired = self._table.query_entities(query, parameters=parameters, results_per_page=EXPIRED_AT_ONCE).by_page()
        async for page in expired:
            async for row in page:
                await self._table.delete_entity(row["PartitionKey"], row["RowKey"])
            break


def _name(request: "Request") -> str:
    session = request.cookies.get(SECURE_COOKIE if encrypted(request) else COOKIE, "")
    return _hash(session) if session else ""


def _hash(session: str) -> str:
    return hashlib.sha256(session.encode()).hexdigest()
