"""The dashboard's settings."""

from typing import Annotated

from joblease.settings import BrokerSettings, Port, ProgramSettings, Seconds, StorageSettings
from pydantic import Field


class DashboardSettings(ProgramSettings, BrokerSettings, StorageSettings):
    """Environment variables `JOBLEASE_…` that the dashboard reads. Metrics and probes are served on its own port."""

    dashboard_host: str = "127.0.0.1"
    """Address to listen on. Whoever reaches it can read all jobs."""
    dashboard_port: Port = 8080
    """Port to listen on; 0 takes any free one."""
    dashboard_heartbeat_seconds: Seconds = 15
    """How often a silent stream says that it lives, so that proxies do not cut it."""
    dashboard_stream_buffer: Annotated[int, Field(ge=100, le=1_000_000)] = 10_000
    """Events kept in memory for streams that resume."""
    dashboard_stream_clients: Annotated[int, Field(ge=1)] = 2_000
    """Streams that may be open at once."""
