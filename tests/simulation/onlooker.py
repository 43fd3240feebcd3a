"""What shows only at the moment in which it happens, and not in what is left in the end.

The product heals much by itself: a message that was lost is published again, a false status is written over, an attempt
that was taken away is followed by another one. So these defects cost time, attempts or the users' trust, and no job its
outcome; each rule here says what must not need to be healed.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from joblease.leases import session_blob
from joblease.messages import Status
from joblease.rows import HEAD, head_of
from joblease.states import State
from joblease.transactions import Write

from simulation.broker import Letter
from simulation.loop import Program
from simulation.storage import Row, Storage

Body = Mapping[str, Any]
HANDED = (State.QUEUED, State.RUNNING, State.INTERRUPTED)
"""States of a job for which there must be a message."""


class Onlooker:
    """Services tell it what they do, after they have done it."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.complaints: list[str] = []
        self.untimely: list[str] = []
        """What may come of clocks that are worse than promised."""
        self.lost_messages: set[str] = set()
        """Jobs of which somebody has deleted a message."""
        self._operators: dict[str, Program] = {}
        """Who has written an event, by its id, if it was an operator and knows that it has."""
        self._sessions: dict[str, tuple[Program, str]] = {}
        """Who has started a job last, and the blob of the session under which it was."""
        self._said: dict[tuple[Program, str], tuple[int, bool]] = {}

    def written(self, writer: Program, writes: Sequence[Write]) -> None:
        """A transaction of the trail has taken effect."""
        job = writes[0].row["PartitionKey"]
        events = [each.row for each in writes if each.row["RowKey"] != HEAD]
        session = next((each.row.get("session", "") for each in writes if each.row["RowKey"] == HEAD), "")
        for row in events:
            starter, blob = self._sessions.get(job, (None, ""))
            lost = row["status"] == Status.INTERRUPTED and "is lost" in row["message"]
            if lost and starter is not writer and self._is_held(blob):
                self.untimely.append(f"job {job}: {writer.name} says at {row['RowKey']} that a held run is lost")
            if row["status"] == Status.STARTED:
                self._sessions[job] = writer, session_blob(session)

    def _is_held(self, blob: str) -> bool:
        found = self._storage.blobs.get(blob)
        return found is not None and self._storage.leased(found)

    def told(self, writer: Program, writes: Sequence[Write]) -> None:
        """A writer of the trail has been told that its transaction took effect."""
        if writer.name.startswith("operator"):
            events = [each.row["eventId"] for each in writes if each.row["RowKey"] != HEAD]
            self._operators |= dict.fromkeys(events, writer)

    def acknowledged(self, letter: Letter, copies: int) -> None:
        """A message of a jobs queue was acknowledged; there are so many others of its job."""
        message_id, job = letter.message_id, letter.message_id.rsplit(".", 1)[0]
        row = self._storage.rows[job].get(HEAD)
        if copies or row is None or job in self.lost_messages:
            return
        head = Row(row[0])
        head.metadata = {"etag": row[1]}
        known = head_of(head)
        given_back = not known.attempt and b'"provisional":true' in letter.body  # it was: another message comes yet
        due = known.state is not State.QUEUED or message_id == f"{job}.{known.attempt + 1}"  # or its own comes yet
        if known.state in HANDED and due and not given_back:
            self.complaints.append(f"job {job} is {known.state}, and its last message {message_id} was acknowledged")

    def said(self, operator: Program, job: str, status: Body) -> None:
        """An operator sends a status: never an older one than before."""
        finished = any(each["type"] == "Finished" and each["status"] == "True" for each in status["conditions"])
        now = int(status["attempt"]), finished
        before = self._said.get((operator, job), now)
        if now < before:
            self.complaints.append(f"job {job}: {operator.name} says {now} of it, and has said {before}")
        self._said[operator, job] = now

    def unfed(self, fed: set[str]) -> Iterator[str]:
        """Events that the dashboard's feed lacks though the operator lives that knows that it has written them."""
        for event, writer in self._operators.items():
            if writer.alive and event not in fed:
                yield f"event {event}: {writer.name} has written it and lives, and the feed lacks it"
