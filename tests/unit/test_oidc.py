"""Sign-in with an OpenID Connect issuer: which settings are possible, and whom a token's claims name."""

from typing import Any

import pytest
from joblease_dashboard.access.claims import kept_of, person
from joblease_dashboard.access.oidc import Grant, Refused
from joblease_dashboard.settings import DashboardSettings
from pydantic import ValidationError

ISSUER = {"access": "kubernetes", "oidc_issuer": "https://id.example.com/realm", "oidc_client_id": "joblease"}
IMPERSONATION = {**ISSUER, "oidc_act_with": "impersonation"}


def settings(**values: Any) -> DashboardSettings:
    return DashboardSettings(**{f"dashboard_{name}": value for name, value in values.items()})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"oidc_client_id": "joblease"}, "no issuer that knows it"),
        ({"oidc_client_secret": "secret"}, "no issuer that knows it"),
        ({**ISSUER, "oidc_client_id": ""}, "oidc_client_id"),
        ({**ISSUER, "access": "none"}, "dashboard_access is kubernetes"),
        ({**ISSUER, "oidc_issuer": "http://id.example.com"}, "without https"),
        ({**ISSUER, "oidc_issuer": "ftp://127.0.0.1"}, "without https"),
        ({**ISSUER, "oidc_issuer": "id.example.com"}, "is an address"),
        ({**ISSUER, "oidc_issuer": "https://id.example.com?a=b"}, "is an address"),
        ({**ISSUER, "oidc_scopes": "profile"}, "openid has to be"),
        ({**ISSUER, "oidc_user_prefix": "oidc:"}, "API server's own"),
        ({**IMPERSONATION, "oidc_groups_prefix": " system:"}, "Kubernetes' own"),
        ({**ISSUER, "oidc_act_with": "token"}, "id-token"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(values: dict[str, str], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        settings(**values)


@pytest.mark.parametrize("address", ["https://id.example.com", "http://127.0.0.1:4000", "http://[::1]/realm"])
def test_an_issuer_is_reached_by_https_or_on_this_machine(address: str) -> None:
    assert settings(**{**ISSUER, "oidc_issuer": address}).dashboard_oidc_issuer == address


def test_prefixes_stand_before_names() -> None:
    prefixed = settings(**IMPERSONATION, oidc_user_prefix="oidc:", oidc_groups_prefix="g:")
    assert person({"sub": "anna", "groups": ["a", "system:masters"]}, prefixed) == (
        "oidc:anna",
        ("g:a", "g:system:masters"),
    )
    assert person({"sub": "anna"}, prefixed) == ("oidc:anna", ())


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"sub": ""},
        {"sub": 7},
        {"sub": "a\nb"},
        {"sub": "\ud800"},
        {"sub": "system:admin"},
        {"sub": "\u00a0system:admin"},
        {"sub": "anna", "groups": "system:masters"},
        {"sub": "anna", "groups": ["a", "  system:masters"]},
        {"sub": "anna", "groups": ["a", None]},
        {"sub": "anna", "groups": {"a": "b"}},
        {"sub": "anna", "groups": 7},
    ],
)
def test_what_is_no_name_is_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        person(claims, settings(**IMPERSONATION))


@pytest.mark.parametrize("split", ["s", "sys", "system"])
def test_a_prefix_and_a_name_together_make_no_name_of_kubernetes(split: str) -> None:
    whole = settings(**IMPERSONATION, oidc_user_prefix=split)
    with pytest.raises(Refused):
        person({"sub": "system:admin".removeprefix(split)}, whole)


def test_an_unverified_address_is_nobodys() -> None:
    by_mail = settings(**IMPERSONATION, oidc_user_claim="email")
    assert person({"email": "a@b.c"}, by_mail) == ("a@b.c", ())
    for verified in (False, "false", None):
        with pytest.raises(Refused, match="not verified"):
            person({"email": "a@b.c", "email_verified": verified}, by_mail)


def test_a_session_keeps_what_is_needed_and_no_more() -> None:
    grant = Grant("the-token", {"sub": "anna", "groups": ["a"], "exp": 4_000_000_000}, "the-refresh-token")
    with_token, in_name = kept_of(grant, settings(**ISSUER)), kept_of(grant, settings(**IMPERSONATION))
    assert (with_token.token, with_token.user, with_token.groups) == ("the-token", "", ())
    assert (in_name.token, in_name.user, in_name.groups) == ("", "anna", ("a",))
    assert with_token.renew_at == 4_000_000_000 - 60
    assert "token" not in repr(with_token).replace("refresh_token", "")
    last = kept_of(Grant("the-token", grant.claims), settings(**ISSUER))
    assert last.renew_at == last.expires == 4_000_000_000
