"""Whom an ID token names: the claims of a person, as a session keeps them."""

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from joblease_dashboard.access.identity import RESERVED
from joblease_dashboard.access.oidc import Grant, Refused
from joblease_dashboard.access.sessions import Kept

if TYPE_CHECKING:
    from joblease_dashboard.settings import DashboardSettings

RENEW_SECONDS = 60.0
"""Before a token expires it is renewed; sooner, when it lives for less than three times as long."""


def kept_of(grant: Grant, settings: "DashboardSettings") -> Kept:
    """What is needed to act for the person. Raises `Refused`."""
    expires, now = float(grant.claims["exp"]), time.time()
    renew_at = expires - min(RENEW_SECONDS, (expires - now) / 3) if grant.refresh_token else expires
    kept = Kept(subject=str(grant.claims["sub"]), refresh_token=grant.refresh_token, renew_at=renew_at, expires=expires)
    if settings.dashboard_oidc_act_with == "id-token":
        return replace(kept, token=grant.id_token)
    user, groups = person(grant.claims, settings)
    return replace(kept, user=user, groups=groups)


def person(claims: dict[str, Any], settings: "DashboardSettings") -> tuple[str, tuple[str, ...]]:
    """User and groups to impersonate. Raises `Refused`: nobody becomes one of Kubernetes' own names."""
    claim, groups = settings.dashboard_oidc_user_claim, claims.get(settings.dashboard_oidc_groups_claim) or []
    user = claims.get(claim)
    if claim == "email" and claims.get("email_verified", True) is not True:
        raise Refused("the issuer has not verified this email address")
    names = [user, *([groups] if isinstance(groups, str) else groups if isinstance(groups, list) else [None])]
    if not all(isinstance(name, str) and name.isprintable() and name.strip() for name in names):
        raise Refused(f"the ID token's claims {claim!r} and {settings.dashboard_oidc_groups_claim!r} are no names")
    prefixes = [settings.dashboard_oidc_user_prefix, *[settings.dashboard_oidc_groups_prefix] * (len(names) - 1)]
    full = [f"{prefix}{name}".strip() for prefix, name in zip(prefixes, names, strict=True)]  # as HTTP headers are
    if any(name.startswith(RESERVED) for name in full):
        raise Refused(f"names that begin with {RESERVED} are Kubernetes' own")
    return full[0], tuple(full[1:])
