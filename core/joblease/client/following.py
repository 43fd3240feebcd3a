"""How a job is followed to its end: live, over a stream of events; what a stream did not tell, its history does.

Live events cost the installation nothing. The history is read when a stream begins, when a number is missing, when the
stream says that it has missed something or does not hear, and after a time of silence. So no event is left out and none
is shown twice, whatever is lost on the way.
"""

import json
import time
from dataclasses import dataclass, field
from urllib.parse import quote

from joblease.client.errors import JobNotFound, NotYet, Unreachable
from joblease.client.exchange import exchange, pauses
from joblease.client.operations import Ref, look
from joblease.client.seen import Event, Snapshot, event_of
from joblease.client.sse import Message, Parser
from joblease.client.steps import Answer, Call, Close, Lost, Open, Pause, Read, Show, Steps

QUIET = 30.0
"""Seconds without an event after which the history is read nevertheless: an event may not have been announced."""
LOOK = 2.0
"""Seconds that a first look may take, also for whoever does not want to wait."""
SILENCE = 60.0
"""Seconds without a sign of life after which a stream is opened anew."""


def deadline_of(timeout: float | None) -> float | None:
    """Of `time.monotonic`. Raises `TypeError`, `ValueError`."""
    if timeout is None:
        return None
    if not isinstance(timeout, int | float):
        raise TypeError(f"timeout: seconds or None are expected, not {timeout!r}")
    if timeout != timeout:  # nan, which no time ever reaches
        raise ValueError("timeout: seconds or None are expected, not nan")
    return time.monotonic() + timeout


@dataclass(slots=True)
class Following:
    """A job that is followed."""

    ref: Ref
    sequence: int = 0
    """Of the last event that is known."""
    data: bool = False
    """Whether live events are to have their data, which only the history has."""
    deadline: float | None = None
    """Of `time.monotonic`."""
    seconds: float = 30.0
    """For each request."""
    quiet: bool = False
    """Whether only the end matters, and no event is shown."""
    _parser: Parser = field(default_factory=Parser)
    _ended: bool = False
    _stale: bool = False
    _read_at: float = 0.0

    def events(self) -> Steps[None]:
        """Shows the events that follow, the last one being the outcome. Raises `JobNotFound`, `NotYet`."""
        rest = pauses()
        while not self._ended:
            heard = yield from self._open()
            yield from self._catch_up()
            while heard and not self._ended:
                before = self.sequence
                heard = yield from self._listen()
                if self.sequence != before:
                    rest = pauses()
            yield Close()
            if not self._ended:
                yield Pause(min(next(rest), self._left()))

    def end(self) -> Steps[Snapshot]:
        """How the job has ended. Raises `JobNotFound`, `NotYet`."""
        try:  # looked at once, however little time there is: `wait(0)` asks whether it has ended
            found = yield from look(self.ref, min(self.seconds, left if (left := self._time()) > 0 else LOOK))
        except Unreachable:
            self._left()
            raise
        if found.state.terminal:
            return found
        self.sequence, self.quiet = found.sequence, True
        yield from self.events()
        return (yield from look(self.ref, self.seconds))

    def _left(self) -> float:
        """Seconds that there are. Raises `NotYet`."""
        if (left := self._time()) <= 0:
            raise NotYet(f"{self.ref} ({self.ref.job_id}) has not ended in the time that was given; it goes on")
        return left

    def _time(self) -> float:
        return SILENCE if self.deadline is None else self.deadline - time.monotonic()

    def _bounded(self) -> float:
        return min(self.seconds, self._left())

    def _open(self) -> Steps[bool]:
        """Whether there is a stream now."""
        self._parser.restart()
        self._stale = False
        resume = {"Last-Event-ID": self._parser.last_id} if self._parser.last_id else {}
        query = {"jobId": self.ref.job_id, **({"namespace": self.ref.namespace} if self.ref.namespace else {})}
        try:
            call = Call("GET", "/api/stream", query, headers=resume, seconds=self._bounded())
            answer: Answer = yield Open(call)
        except Lost:
            return False
        return answer.status == 200

    def _listen(self) -> Steps[bool]:
        """Whether there is still a stream."""
        try:
            chunk: bytes = yield Read(min(SILENCE, self._left()))
            messages = list(self._parser.feed(chunk))
        except (Lost, ValueError):
            self._left()
            return False
        for message in messages:
            yield from self._hear(message)
        if self._stale or time.monotonic() - self._read_at > QUIET:
            yield from self._catch_up()
        return bool(chunk)

    def _hear(self, message: Message) -> Steps[None]:
        if message.kind in ("stale", "fresh"):
            self._stale = message.kind == "stale"
        if message.kind in ("missed", "fresh"):
            yield from self._catch_up()
        if message.kind == "job" and not self._ended:
            event = event_of(json.loads(message.data))
            if self.data or event.sequence > self.sequence + 1:
                yield from self._catch_up()
            yield from self._show(event)

    def _catch_up(self) -> Steps[None]:
        """Show what the history has."""
        path = f"/api/jobs/{quote(self.ref.job_id, safe='')}"
        more = True
        while more and not self._ended:
            query = {"after": str(self.sequence)} if self.sequence else {}
            try:
                page = yield from exchange(Call("GET", path, query, seconds=self._bounded()), str(self.ref))
            except JobNotFound:
                yield from look(self.ref, self._bounded())  # its trail may not have begun
                break
            except Unreachable:
                self._left()
                if self.deadline is None:
                    raise
                break
            for each in page["events"]:
                yield from self._show(event_of(each))
            more = "next" in page
        self._read_at = time.monotonic()

    def _show(self, event: Event) -> Steps[None]:
        if event.sequence > self.sequence and not self._ended:
            self.sequence = event.sequence
            self._ended = event.state.terminal
            if not self.quiet:
                yield Show(event)
