"""An OpenID Connect issuer: what it is asked, and what is believed of its answers.

People sign in by authorization code with PKCE. An ID token counts when a key that the issuer publishes has signed it,
and when it is the issuer's, for this client, for this very sign-in, and has not expired. The issuer's addresses and
keys are kept for an hour; when no known key has signed a token, they are fetched anew, now and then.
"""

import json
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri, prepare_token_request
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import ClaimError, JoseError
from joserfc.jwk import KeySet

from joblease_dashboard.problems import Problem

if TYPE_CHECKING:
    from joblease_dashboard.settings import DashboardSettings

ALGORITHMS = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519",
)  # fmt: skip
"""Of signatures: those with a key that is the issuer's alone."""
KNOWN_SECONDS = 3_600.0
"""How long the issuer's addresses and keys are kept."""
KEYS_SECONDS = 10.0
"""Between two requests for its keys, at least."""
LEEWAY_SECONDS = 30
"""By which its clock may differ from ours."""
ADDRESSES = ("authorization_endpoint", "token_endpoint", "jwks_uri")
log = logging.getLogger(__name__)


class Refused(Exception):
    """The issuer gives no token that counts. The message is for people."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A verified ID token."""

    id_token: str = field(repr=False)
    claims: dict[str, Any]
    refresh_token: str = field(default="", repr=False)
    """With which the next one is to be had; empty: only by another sign-in."""


class Issuer:
    """Raises `Problem` 503 when it does not answer."""

    def __init__(self, settings: "DashboardSettings") -> None:
        """`settings` name an issuer."""
        secret = settings.dashboard_oidc_client_secret
        self._issuer, self._client = settings.dashboard_oidc_issuer, settings.dashboard_oidc_client_id
        self._secret = secret.get_secret_value() if secret else ""
        self._scopes = settings.dashboard_oidc_scopes
        self._timeout = aiohttp.ClientTimeout(total=settings.dashboard_api_timeout_seconds)
        self._metadata: dict[str, Any] = {}
        self._metadata_until = 0.0
        self._keys = KeySet([])
        self._keys_fetched = float("-inf")

    async def address(self, redirect_uri: str, state: str, nonce: str, verifier: str) -> str:
        """Where a browser signs in. It comes back to `redirect_uri`, with `state` and a code."""
        address: str = prepare_grant_uri(
            (await self._known())["authorization_endpoint"],
            self._client,
            "code",
            redirect_uri,
            self._scopes,
            state,
            nonce=nonce,
            code_challenge=create_s256_code_challenge(verifier),
            code_challenge_method="S256",
            prompt="consent" if "offline_access" in self._scopes.split() else None,  # as the standard has it
        )
        return address

    async def exchange(self, code: str, redirect_uri: str, verifier: str, nonce: str) -> Grant:
        """The ID token for a code. Raises `Refused`."""
        body = prepare_token_request("authorization_code", code=code, redirect_uri=redirect_uri, code_verifier=verifier)
        return await self._grant(body, nonce=nonce)

    async def refresh(self, refresh_token: str, subject: str) -> Grant:
        """The next ID token of the same person, whose `sub` is `subject`. Raises `Refused`."""
        grant = await self._grant(prepare_token_request("refresh_token", refresh_token=refresh_token))
        if grant.claims["sub"] != subject:
            raise Refused("the next token is somebody else's")
        return grant if grant.refresh_token else Grant(grant.id_token, grant.claims, refresh_token)

    def check_sender(self, issuer: str | None) -> None:
        """Raise `Refused` when an answer says that another issuer has sent it (RFC 9207)."""
        if issuer not in (None, self._issuer):
            raise Refused("another issuer has answered")

    async def _grant(self, body: str, nonce: str = "") -> Grant:
        known = await self._known()
        method = "none"
        if self._secret:
            offered = known.get("token_endpoint_auth_methods_supported") or ()
            method = "client_secret_post" if "client_secret_post" in offered else "client_secret_basic"
        headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
        authentication = ClientAuth(self._client, self._secret, method)
        address, headers, body = authentication.prepare("POST", known["token_endpoint"], headers, body)
        status, answer = await self._ask("POST", address, headers, body)
        if status != 200 or not isinstance(answer.get("id_token"), str):
            said = str(
                answer.get("error_description") or answer.get("error") or f"its answer has no ID token ({status})"
            )
            raise Refused(f"the issuer says: {said[:200]}")
        claims = await self._verify(answer["id_token"], str(answer.get("access_token") or ""), nonce)
        return Grant(answer["id_token"], claims, str(answer.get("refresh_token") or ""))

    async def _verify(self, token: str, access_token: str, nonce: str) -> dict[str, Any]:
        if time.monotonic() - self._keys_fetched > KNOWN_SECONDS:
            await self._fetch_keys()
        try:
            decoded = jwt.decode(token, self._keys, ALGORITHMS)
        except (JoseError, ValueError):
            await self._fetch_keys()  # it may have new ones
            try:
                decoded = jwt.decode(token, self._keys, ALGORITHMS)
            except (JoseError, ValueError) as error:
                raise Refused(f"the ID token is not signed by the issuer ({type(error).__name__})") from None
        expected = {
            "iss": {"essential": True, "value": self._issuer},
            "aud": {"essential": True, "value": self._client},
        }
        said = {"client_id": self._client, "nonce": nonce, "access_token": access_token}
        claims = CodeIDToken(decoded.claims, decoded.header, expected, said)
        try:
            claims.validate(leeway=LEEWAY_SECONDS)
        except (ClaimError, ValueError, TypeError) as error:
            raise Refused(f"the ID token does not fit: {error}") from None
        return dict(claims)

    async def _known(self) -> dict[str, Any]:
        if time.monotonic() > self._metadata_until:
            status, found = await self._ask("GET", f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
            if status != 200 or found.get("issuer") != self._issuer:
                raise _problem(f"what answers at {self._issuer} calls itself {found.get('issuer')!r} ({status})")
            scheme = urlsplit(self._issuer).scheme
            if any(urlsplit(str(found.get(name))).scheme not in ("https", scheme) for name in ADDRESSES):
                raise _problem(f"{self._issuer} lacks addresses that are needed, or has them without TLS")
            self._metadata, self._metadata_until = found, time.monotonic() + KNOWN_SECONDS
        return self._metadata

    async def _fetch_keys(self) -> None:
        if time.monotonic() - self._keys_fetched < KEYS_SECONDS:
            return
        status, found = await self._ask("GET", (await self._known())["jwks_uri"])
        try:
            keys = [each for each in found["keys"] if each.get("use", "sig") == "sig"]
            self._keys = KeySet.import_key_set({"keys": keys})
        except (JoseError, KeyError, TypeError, ValueError, AttributeError):
            raise _problem(f"{self._issuer} has no keys that could be read ({status})") from None
        self._keys_fetched = time.monotonic()

    async def _ask(
        self, method: str, address: str, headers: dict[str, str] | None = None, body: str | None = None
    ) -> tuple[int, dict[str, Any]]:
        """The status and the JSON object of an answer."""
        try:
            async with (
                aiohttp.ClientSession(timeout=self._timeout, trust_env=True) as http,
                http.request(method, address, headers=headers, data=body, allow_redirects=False) as answer,
            ):
                status, found = answer.status, json.loads(await answer.read())
        except (aiohttp.ClientError, OSError, ValueError) as error:
            log.warning("the issuer %s cannot be asked: %s: %s", self._issuer, type(error).__name__, error)
            raise _problem(f"{self._issuer} cannot be reached ({type(error).__name__}); try again") from None
        if status >= 500 or not isinstance(found, dict):
            raise _problem(f"{self._issuer} has a problem ({status}); try again")
        return status, found


def _problem(said: str) -> Problem:
    return Problem(503, "The OIDC issuer does not answer", said)
