"""Puts the rooms together, from the lowest to the highest."""

import secrets
from typing import TYPE_CHECKING

from joblease.keys import Keys
from joblease.storage import (
    ACTION_FEED_TABLE,
    ACTIONS_TABLE,
    FEED_TABLE,
    INDEX_TABLE,
    KEYS_TABLE,
    SESSIONS_TABLE,
    STATS_TABLE,
    TRAIL_TABLE,
    Storage,
)
from joblease.trail import AuditTrail

from joblease_dashboard.access.access import Access
from joblease_dashboard.access.sessions import Sessions
from joblease_dashboard.actions.actions import Actions
from joblease_dashboard.actions.bulk import Bulk
from joblease_dashboard.actions.intake import Intake
from joblease_dashboard.actions.keyed import Keyed
from joblease_dashboard.actions.many import Many
from joblease_dashboard.actions.record import Record
from joblease_dashboard.actions.resources import Resources
from joblease_dashboard.actions.submitting import Submitting
from joblease_dashboard.live.board import Board
from joblease_dashboard.live.log import Log
from joblease_dashboard.live.streams import Streams
from joblease_dashboard.live.workers import Workers
from joblease_dashboard.pages.charts import Charts
from joblease_dashboard.pages.page import Rooms
from joblease_dashboard.pages.render import Renderer
from joblease_dashboard.pages.routes import PAGES
from joblease_dashboard.read_model.queries import TimeTable
from joblease_dashboard.read_model.seals import Seals
from joblease_dashboard.read_model.statistics import Stats

if TYPE_CHECKING:
    from joblease.broker import Broker

    from joblease_dashboard.access.cluster import Cluster
    from joblease_dashboard.settings import DashboardSettings


def assemble(settings: "DashboardSettings", storage: Storage, broker: "Broker", cluster: "Cluster | None") -> Rooms:
    """The rooms; empty until `Background` runs."""
    key = settings.dashboard_session_key
    secret = key.get_secret_value() if key else secrets.token_urlsafe(32)
    sessions = Sessions(storage.table(SESSIONS_TABLE), secret, settings.dashboard_session_seconds)
    access = Access(settings, cluster, sessions)
    seals = Seals(None if access.mode == "none" else _common_secret(settings) or secret)
    record = Record(storage.table(ACTIONS_TABLE), storage.table(ACTION_FEED_TABLE), seals)
    trail, statistics = AuditTrail(storage.table(TRAIL_TABLE)), Stats(storage.table(STATS_TABLE))
    workers = Workers()
    board = Board(workers)
    streams = Streams(
        Log(board, settings.dashboard_stream_buffer, seals),
        broker,
        settings.dashboard_stream_clients,
        settings.dashboard_streams_each,
        settings.dashboard_heartbeat_seconds,
    )
    resources = Resources(cluster)
    keyed, many = Keyed(Keys(storage.table(KEYS_TABLE)), resources), Many()
    submitting = Submitting(access, resources, keyed)
    return Rooms(
        access=access,
        trail=trail,
        jobs=TimeTable(storage.table(INDEX_TABLE), seals),
        events=TimeTable(storage.table(FEED_TABLE), seals),
        statistics=statistics,
        streams=streams,
        board=board,
        workers=workers,
        broker=broker,
        locks=storage.locks(),
        defer_seconds=settings.defer_seconds,
        actions=Actions(access, resources, submitting, broker, trail, record, board),
        intake=Intake(access, submitting, workers, record, many),
        bulk=Bulk(access, resources, submitting, record, many),
        charts=Charts(statistics),
        render=Renderer(access, streams, PAGES, settings.dashboard_base_path),
    )


def _common_secret(settings: "DashboardSettings") -> str:
    """One that all replicas have, and had before they were restarted, if there is any."""
    given = (settings.dashboard_session_key, settings.dashboard_proxy_secret, settings.storage_connection_string)
    return next((each.get_secret_value() for each in given if each), "")
