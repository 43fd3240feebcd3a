"""Settings that all programs share, read from the environment and checked before anything is started.

Every setting is an environment variable `JOBLEASE_<NAME>`. The defaults suit a developer's machine: a RabbitMQ on
localhost with its guest account, and Azurite. A program that is set up wrongly refuses to start and names the
variable (`load`), because a wrong setting found at three in the morning is an outage.
"""

import argparse
import socket
import ssl
import sys
import textwrap
from dataclasses import dataclass
from typing import Annotated, Literal, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, FilePath, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from joblease import __version__

AZURITE = "UseDevelopmentStorage=true"
# The account of the storage emulator, published by its makers for everybody to use; it protects nothing.
AZURITE_CONNECTION_STRING = (
    "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;"
    "AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;"
    "BlobEndpoint=http://127.0.0.1:10000/devstoreaccount1;TableEndpoint=http://127.0.0.1:10002/devstoreaccount1;"
)

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]


class Environment(BaseSettings):
    """Where all settings come from."""

    model_config = SettingsConfigDict(
        env_prefix="JOBLEASE_", env_nested_delimiter="__", extra="ignore", use_attribute_docstrings=True
    )


class BrokerSettings(Environment):
    """How to reach RabbitMQ."""

    amqp_url: SecretStr = SecretStr("amqp://guest:guest@127.0.0.1:5672/")
    """`amqp://user:password@host:5672/vhost`, or `amqps://` for TLS."""
    amqp_ca_file: FilePath | None = None
    """Certificate authority for `amqps://`, PEM; the system's when unset."""
    amqp_cert_file: FilePath | None = None
    """Client certificate, PEM."""
    amqp_key_file: FilePath | None = None
    """Key of the client certificate, PEM."""
    amqp_timeout_seconds: Seconds = 10
    """Bound on connecting, on declaring, and on each confirmed publish."""
    amqp_heartbeat_seconds: Annotated[int, Field(ge=1, le=600)] = 15
    """A peer that was silent for twice as long is taken for dead, and what it had not acknowledged goes to others."""
    defer_seconds: Annotated[int, Field(ge=1, le=600)] = 10
    """How long a job waits in the broker when somebody else holds its lease."""
    consumer_timeout_seconds: Annotated[int, Field(ge=60)] = 86_400
    """Longest time a message may stay unacknowledged; asked of brokers that can be asked (RabbitMQ 3.12 and later) when
    a queue is made. A queue that exists keeps its own, and the log says how to renew it."""

    @model_validator(mode="after")
    def _check_url(self) -> Self:
        parts = urlsplit(self.amqp_url.get_secret_value())
        if parts.scheme not in ("amqp", "amqps") or not parts.hostname:
            raise ValueError("amqp_url: expected amqp://user:password@host:port/vhost or amqps://…")
        if parts.scheme == "amqp" and (self.amqp_ca_file or self.amqp_cert_file):
            raise ValueError("amqp_url: certificates are set, so the URL must begin with amqps://")
        if (self.amqp_cert_file is None) != (self.amqp_key_file is None):
            raise ValueError("amqp_cert_file: needs amqp_key_file, and the other way round")
        return self

    def tls(self) -> ssl.SSLContext | None:
        """The TLS context for an `amqps://` URL, or None."""
        if not self.amqp_url.get_secret_value().startswith("amqps:"):
            return None
        context = ssl.create_default_context(cafile=str(self.amqp_ca_file) if self.amqp_ca_file else None)
        if self.amqp_cert_file:
            context.load_cert_chain(self.amqp_cert_file, self.amqp_key_file)
        return context


class StorageSettings(Environment):
    """How to reach Azure Blob and Table storage."""

    storage_connection_string: SecretStr | None = None
    """The account's connection string; unset (with no account URL either) means Azurite on this machine."""
    storage_account_url: str | None = None
    """`https://<account>.blob.core.windows.net`, for identities (`DefaultAzureCredential`) instead of keys."""
    storage_timeout_seconds: Seconds = 10
    """Bound on each storage request."""

    @model_validator(mode="after")
    def _check_account(self) -> Self:
        if self.storage_connection_string and self.storage_account_url:
            raise ValueError("storage_account_url: set this or storage_connection_string, not both")
        if self.storage_account_url:
            parts = urlsplit(self.storage_account_url)
            if parts.scheme != "https" or ".blob." not in (parts.hostname or ""):
                raise ValueError("storage_account_url: expected https://<account>.blob.<domain>")
        elif "=" not in self.connection_string():
            raise ValueError("storage_connection_string: expected Name=value;Name=value;…")
        return self

    def connection_string(self) -> str:
        """The connection string in force when no account URL is set."""
        value = self.storage_connection_string.get_secret_value() if self.storage_connection_string else AZURITE
        return AZURITE_CONNECTION_STRING if value == AZURITE else value

    def account_urls(self) -> tuple[str, str] | None:
        """(blob URL, table URL) of the account, or None when a connection string is used."""
        if not self.storage_account_url:
            return None
        parts = urlsplit(self.storage_account_url)
        table = parts._replace(netloc=parts.netloc.replace(".blob.", ".table.", 1))
        return urlunsplit(parts), urlunsplit(table)


class ProgramSettings(Environment):
    """What every program has: logs and a port for metrics and probes."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The least severe lines to write."""
    log_format: Literal["auto", "json", "console"] = "auto"
    """`auto` writes readable lines to a terminal and JSON to anything else."""
    metrics_host: str = "::"
    """Address for `/metrics`, `/healthz` and `/readyz`; `::` is every address, of IPv6 and of IPv4."""
    metrics_port: Port = 9090
    """Port for the same; 0 takes any free one."""


S = TypeVar("S", bound=BaseSettings)


def load(settings: type[S]) -> S:
    """Read the settings from the environment, or end the program (exit code 2) naming each wrong variable."""
    try:
        return settings()
    except ValidationError as error:
        prefix = settings.model_config.get("env_prefix", "")
        for problem in error.errors():
            name, message = "__".join(map(str, problem["loc"])), problem["msg"].removeprefix("Value error, ")
            if not name and ": " in message:
                name, message = message.split(": ", 1)
            sys.stderr.write(f"wrong setting {(prefix + name).upper()}: {message}\n")
        raise SystemExit(2) from None


@dataclass(frozen=True, slots=True)
class Variable:
    """A setting as people set it."""

    field: str
    variable: str
    default: str
    """Empty when it is unset."""
    meaning: str


def variables(settings: type[BaseSettings]) -> list[Variable]:
    """All variables of a settings class."""
    prefix = settings.model_config.get("env_prefix", "")
    return [
        Variable(name, (prefix + name).upper(), _default(field), field.description or "")
        for name, field in settings.model_fields.items()
    ]


def _default(field: FieldInfo) -> str:
    if field.default_factory:
        return "" if field.default_factory is not socket.gethostname else "the host's name"
    default = field.get_default()
    shown = default.get_secret_value() if isinstance(default, SecretStr) else default
    if shown is None or shown == ():
        return ""
    return str(shown).lower() if isinstance(shown, bool) else str(shown)


def describe(settings: type[BaseSettings]) -> str:
    """All variables of a settings class with their defaults and meanings, for `--help`."""
    lines = ["Settings are environment variables:"]
    for each in variables(settings):
        lines.append(f"  {each.variable}  (default: {each.default or 'unset'})")
        lines += textwrap.wrap(each.meaning, 90, initial_indent="      ", subsequent_indent="      ")
    return "\n".join(lines)


def argument_parser(settings: type[BaseSettings], program: str, purpose: str) -> argparse.ArgumentParser:
    """A parser with `--version`, and with a `--help` that lists the settings."""
    parser = argparse.ArgumentParser(
        program, description=purpose, epilog=describe(settings), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"{program} {__version__}")
    return parser
