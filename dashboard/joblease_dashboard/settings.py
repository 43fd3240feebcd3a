"""The dashboard's settings."""

from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from joblease.settings import BrokerSettings, Port, ProgramSettings, Seconds, StorageSettings
from pydantic import Field, SecretStr, model_validator

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class DashboardSettings(ProgramSettings, BrokerSettings, StorageSettings):
    """Environment variables `JOBLEASE_…` that the dashboard reads. Metrics and probes are served on its own port."""

    dashboard_host: str = "127.0.0.1"
    """Address to listen on; `::` is every address, of IPv6 and of IPv4."""
    dashboard_port: Port = 8080
    """Port to listen on; 0 takes any free one."""
    dashboard_base_path: Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._~-]+)*$")] = ""
    """Path of the host below which browsers find the dashboard: `/joblease`; a proxy may take it away or leave it."""
    dashboard_access: Literal["kubernetes", "proxy", "none"] = "none"
    """Who comes in: `kubernetes` asks for a Kubernetes token; `proxy` believes a proxy that proves itself;
    `none` asks nobody, which is for this machine alone. With the first two, RBAC on jobrequests decides who sees and
    does what."""
    dashboard_insecure: bool = False
    """Allow `none` on an address that others can reach."""
    dashboard_trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    """The proxies' networks, as a JSON list: ["10.0.0.0/8"]. Their X-Forwarded-For tells where a request comes from; in
    mode `proxy` they tell who asks, and nobody else is let in."""
    dashboard_proxy_secret: Annotated[SecretStr, Field(min_length=32)] | None = None
    """For `proxy`: what the proxy sends as X-Joblease-Proxy-Secret to prove that it is the proxy, 32 characters or
    more."""
    dashboard_user_header: Annotated[str, Field(min_length=1)] = "X-Forwarded-User"
    """For `proxy`: the header with the user's name."""
    dashboard_groups_header: Annotated[str, Field(min_length=1)] = "X-Forwarded-Groups"
    """For `proxy`: the header with the user's groups, comma-separated."""
    dashboard_oidc_issuer: str = ""
    """For `kubernetes`: an OpenID Connect issuer with which people may sign in, beside a token of their own."""
    dashboard_oidc_client_id: str = ""
    """The dashboard's name there. Its redirect URI is the dashboard's address with `/login/callback`."""
    dashboard_oidc_client_secret: SecretStr | None = None
    """The client's secret; unset, it is a public client."""
    dashboard_oidc_scopes: str = "openid profile groups"
    """What is asked for, separated by spaces. With `offline_access`, most issuers let a sign-in outlive its token."""
    dashboard_oidc_act_with: Literal["id-token", "impersonation"] = "id-token"
    """How the API server is asked for who has signed in with the issuer: with the ID token, where the API server trusts
    the issuer too, or in their name, for which the dashboard's account needs the right to impersonate."""
    dashboard_oidc_user_claim: Annotated[str, Field(min_length=1)] = "sub"
    """For `impersonation`: the claim with the user's name."""
    dashboard_oidc_groups_claim: Annotated[str, Field(min_length=1)] = "groups"
    """For `impersonation`: the claim with the user's groups."""
    dashboard_oidc_user_prefix: str = ""
    """For `impersonation`: put before the user's name, such as `oidc:`. Names that then begin with `system:` are
    refused."""
    dashboard_oidc_groups_prefix: str = ""
    """For `impersonation`: put before each group."""
    dashboard_actions: bool = True
    """Let those who have the right submit, cancel, retry, suspend and resume jobs and replay dead letters from here."""
    dashboard_session_key: Annotated[SecretStr, Field(min_length=32)] | None = None
    """Encrypts the tokens of people who are signed in, and what page tokens and streams' ids say; 32 characters or
    more, the same for all replicas. Unset, sessions end with the pod, and so do those where storage takes no key."""
    dashboard_session_seconds: Annotated[int, Field(ge=60, le=604_800)] = 28_800
    """How long a sign-in lasts. What it allows is looked up anew every 15 s."""
    dashboard_heartbeat_seconds: Seconds = 15
    """How often a silent stream says that it lives, so that proxies do not cut it."""
    dashboard_stream_buffer: Annotated[int, Field(ge=100, le=1_000_000)] = 10_000
    """Events kept in memory for streams that resume."""
    dashboard_stream_clients: Annotated[int, Field(ge=1)] = 2_000
    """Streams that may be open at once."""
    dashboard_streams_each: Annotated[int, Field(ge=1)] = 50
    """Streams that one person may have open at once; in mode `none`, one address. A page has one while it is seen."""
    dashboard_requests_per_second: Annotated[int, Field(ge=1)] = 100
    """Requests that one user at one address may make, in the long run; ten times as many at once."""
    dashboard_api_timeout_seconds: Seconds = 10
    """Bound on each request to the API server, and to the OIDC issuer."""

    @model_validator(mode="after")
    def _check_access(self) -> Self:
        if self.dashboard_access == "none" and self.dashboard_host not in LOOPBACK and not self.dashboard_insecure:
            raise ValueError(
                f"dashboard_access: everybody who reaches {self.dashboard_host} would see and do everything. Set "
                "kubernetes or proxy, or JOBLEASE_DASHBOARD_INSECURE=true"
            )
        if self.dashboard_access == "proxy" and not self.dashboard_trusted_proxies:
            raise ValueError("dashboard_trusted_proxies: name the proxies whose headers are to be believed")
        if self.dashboard_access == "proxy" and not self.dashboard_proxy_secret:
            raise ValueError("dashboard_proxy_secret: without a secret, any pod could say that it is the proxy")
        return self

    @model_validator(mode="after")
    def _check_oidc(self) -> Self:
        prefixes = self.dashboard_oidc_user_prefix, self.dashboard_oidc_groups_prefix
        if not self.dashboard_oidc_issuer:
            if self.dashboard_oidc_client_id or self.dashboard_oidc_client_secret:
                raise ValueError("dashboard_oidc_issuer: there is a client, and no issuer that knows it")
            return self
        address = urlsplit(self.dashboard_oidc_issuer)
        if not address.hostname or address.query or address.fragment:
            raise ValueError("dashboard_oidc_issuer: it is an address such as https://id.example.com")
        if address.scheme != "https" and (address.scheme != "http" or address.hostname not in LOOPBACK):
            raise ValueError("dashboard_oidc_issuer: without https, anybody on the way could sign in as anybody")
        if self.dashboard_access != "kubernetes":
            raise ValueError("dashboard_oidc_issuer: people sign in only where dashboard_access is kubernetes")
        if not self.dashboard_oidc_client_id:
            raise ValueError("dashboard_oidc_client_id: the issuer knows the dashboard by it")
        if "openid" not in self.dashboard_oidc_scopes.split():
            raise ValueError("dashboard_oidc_scopes: openid has to be among them")
        if any(prefix.strip().startswith("system:") for prefix in prefixes):
            raise ValueError("dashboard_oidc_user_prefix, _groups_prefix: names with system: are Kubernetes' own")
        if any(prefixes) and self.dashboard_oidc_act_with == "id-token":
            raise ValueError("dashboard_oidc_user_prefix, _groups_prefix: with id-token, the API server's own count")
        return self
