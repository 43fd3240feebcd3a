"""What answers are made from, and what programs and people do."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from azure.storage.blob.aio import ContainerClient
    from joblease.broker import Broker
    from joblease.trail import AuditTrail

    from joblease_dashboard.access.access import Access
    from joblease_dashboard.actions.actions import Actions
    from joblease_dashboard.actions.bulk import Bulk
    from joblease_dashboard.actions.intake import Intake
    from joblease_dashboard.live.board import Board
    from joblease_dashboard.live.streams import Streams
    from joblease_dashboard.live.workers import Workers
    from joblease_dashboard.read_model.queries import TimeTable
    from joblease_dashboard.read_model.statistics import Stats


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """The rooms below, opened once for all requests."""

    access: "Access"
    trail: "AuditTrail"
    jobs: "TimeTable"
    """`JobIndex`: a row for each job."""
    events: "TimeTable"
    """`JobFeed`: a row for each event."""
    statistics: "Stats"
    streams: "Streams"
    board: "Board"
    workers: "Workers"
    broker: "Broker"
    locks: "ContainerClient"
    """The blobs that are leased."""
    defer_seconds: int
    """Pause after a lease conflict: it is in the names of the queues that hold messages meanwhile."""
    actions: "Actions"
    intake: "Intake"
    bulk: "Bulk"
