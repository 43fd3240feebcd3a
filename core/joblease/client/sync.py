"""`Client`: takes the steps of its operations one after the other, in the caller's thread."""

import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, Unpack, overload

from joblease.client import operations
from joblease.client.errors import JobLeaseError
from joblease.client.following import Following, deadline_of
from joblease.client.http import Config, answer_of, limits, opening, request_of
from joblease.client.job import AnyJob, changes, known, listed, result_of
from joblease.client.lean import httpx
from joblease.client.operations import Ref
from joblease.client.seen import Event, Snapshot
from joblease.client.selection import Outcome, Selection, selector_of
from joblease.client.steps import Answer, Call, Close, Lost, Open, Pause, Read, Show, Step, Steps, shown
from joblease.client.submission import Options, Submission, submission
from joblease.handlers import JobContext

P = ParamSpec("P")
T = TypeVar("T")
NEARLY = 0.75
"""A stream waits as long for its next bytes as was right when it was opened; one that waits much longer than the
caller wants to is opened anew."""


class Job(AnyJob):
    """A job. Its methods raise `JobLeaseError`s."""

    def __init__(self, client: "Client", made: Mapping[str, Any], snapshot: Snapshot | None = None) -> None:
        super().__init__(made, snapshot)
        self._client = client

    def refresh(self) -> Snapshot:
        """Look at it."""
        self.snapshot = self._client.run(operations.look(self.ref, self._client.timeout))
        return self.snapshot

    def wait(self, timeout: float | None = None) -> Snapshot:
        """Wait for its end, for so many seconds. Raises `NotYet`; how it has ended is no error."""
        self.snapshot = self._client.run(self._client.following(self.ref, timeout).end())
        return self.snapshot

    def result(self, timeout: float | None = None) -> Any:
        """Wait for its end; what the handler returned. Raises `JobFailed`, `JobWasCancelled`, `NotYet`."""
        return result_of(self.wait(timeout))

    def events(self, *, after: int = 0, data: bool = False, timeout: float | None = None) -> Iterator[Event]:
        """What happens to it, from the event `after` on, until its outcome, which is the last one.

        `data`: live events have their data, too, which costs a read of the history each. Raises `NotYet`.
        """
        return self._client.iterate(self._client.following(self.ref, timeout, after, data=data).events())

    def cancel(self) -> None:
        """Let it end. Raises `Refused` (409) when it has ended."""
        self._act("cancel")

    def suspend(self) -> None:
        """Let it wait until `resume`. Raises `Refused` (409) when it runs or has ended."""
        self._act("suspend")

    def resume(self) -> None:
        """Let it go on after `suspend`."""
        self._act("resume")

    def retry(self) -> "Job":
        """Submit a job like it, which has ended."""
        return Job(self._client, self._client.run(operations.retry(self.ref, self._client.timeout)))

    def change(self, *, priority: int | None = None, ttl: int | None = None) -> None:
        """Change its priority while it waits, or when its `JobRequest` is deleted."""
        self._client.run(operations.change(self.ref, changes(priority, ttl), self._client.timeout))

    def _act(self, verb: str) -> None:
        self._client.run(operations.act(self.ref, verb, self._client.timeout))


class Client:
    """Submits jobs to a dashboard, and follows them. Use it in a `with`, or `close` it; several threads may share it.

    `url`, `token`: see `docs/client.md` for what is found without them. `ca`: a file of authorities (PEM).
    `timeout`: seconds for each call, with all that is tried again. `plain`: a token may be sent over http.
    `options` count for each job that does not say otherwise. Raises `NotConfigured`.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | Callable[[], str] | None = None,
        ca: str | os.PathLike[str] | None = None,
        timeout: float = 30.0,
        plain: bool = False,
        transport: httpx.BaseTransport | None = None,
        **options: Unpack[Options],
    ) -> None:
        self._config = Config.of(url, token, ca, timeout, options, plain=plain)
        self._transport = transport
        self._http: httpx.Client | None = self._open()

    @property
    def timeout(self) -> float:
        """Seconds for each call."""
        return self._config.timeout

    @property
    def url(self) -> str:
        """The dashboard's address."""
        return self._config.place.url

    @overload
    def submit(self, job: str, parameters: Mapping[str, Any] | None = None, /, **options: Unpack[Options]) -> Job: ...
    @overload
    def submit(self, job: Submission, /) -> Job: ...
    @overload
    def submit(
        self, job: Callable[Concatenate[JobContext, P], Any], /, *args: P.args, **parameters: P.kwargs
    ) -> Job: ...
    def submit(self, job: Any, /, *args: Any, **more: Any) -> Job:
        """Submit a job: `("resize-images", {"paths": […]}, key="order-17")`, `(resize, paths=[…])`, or a `submission`.

        Raises `TypeError` and `ValueError` for what cannot be right, before anything is sent; then `KeyConflict`,
        `Refused`, `Unreachable`.
        """
        item = job if isinstance(job, Submission) else submission(job, *args, **more)
        return Job(self, self.run(operations.submit(item, self._config.options, self.timeout)))

    def submit_many(self, jobs: Iterable[Submission]) -> list[Job | JobLeaseError]:
        """Submit many, a thousand at a time. For each, in their order, the job, or the error that it alone has."""
        found = self.run(operations.submit_many(list(jobs), self._config.options, self.timeout))
        return [each if isinstance(each, JobLeaseError) else Job(self, each) for each in found]

    def job(self, job_id: str) -> Job:
        """A job of which the id is known. Raises `JobNotFound`, `ValueError`."""
        found = self.run(operations.look(operations.ref_of(job_id), self.timeout))
        return Job(self, known(found), found)

    def jobs(
        self,
        *,
        namespace: str | None = None,
        state: str | None = None,
        handler: str | None = None,
        group: str | None = None,
    ) -> Iterator[Job]:
        """All jobs to which that applies, the last submitted first; pages are read as they are needed."""
        query = listed(namespace, state, handler, group)
        for found in self.iterate(operations.jobs(query, self.timeout)):
            yield Job(self, known(found), found)

    def select(
        self,
        *,
        namespace: str | None = None,
        labels: str | Mapping[str, str] | None = None,
        handler: str | None = None,
        state: str | None = None,
    ) -> Selection[Outcome]:
        """The jobs of a namespace (the client's) to which all of that applies, to do something to all of them.

        `labels`: a Kubernetes label selector (`a=b,c!=d`), or labels and their values.
        """
        where = namespace or self._config.options.get("namespace")
        return Selection(self.run, selector_of(where, labels, handler, state), self.timeout)

    def close(self) -> None:
        """Close the connections."""
        http, self._http = self._http, None
        if http:
            http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def following(self, ref: Ref, timeout: float | None, after: int = 0, *, data: bool = False) -> Following:
        """How a job is followed; for `Job`."""
        return Following(ref, after, data, deadline_of(timeout), self.timeout)

    def run(self, steps: Steps[T]) -> T:
        """Take all steps; what comes of them; for `Job`."""
        result: Any = None
        for result in self.iterate(shown(steps)):  # noqa: B007 - the last one counts
            pass
        return result  # type: ignore[no-any-return]

    def iterate(self, steps: Steps[None]) -> Generator[Any, None, None]:
        """Take the steps; what they show; for `Job`."""
        line = _Line(self._config, self._opened())
        answer: Any = None
        error: Lost | None = None
        try:
            while True:
                step = steps.throw(error) if error else steps.send(answer)
                answer = error = None
                if isinstance(step, Show):
                    yield step.value
                    continue
                try:
                    answer = line.take(step)
                except Lost as lost:
                    error = lost
        except StopIteration:
            return
        finally:
            line.close()
            steps.close()

    def _opened(self) -> httpx.Client:
        if self._http is None:
            raise JobLeaseError("this client was closed")
        return self._http

    def _open(self) -> httpx.Client:
        place, tls = self._config.place, self._config.tls
        with opening():
            return httpx.Client(
                base_url=place.url, verify=tls, trust_env=place.tls, limits=limits(), transport=self._transport
            )


class _Line:
    """The connection of one operation; at most one stream."""

    def __init__(self, config: Config, http: httpx.Client) -> None:
        self._config = config
        self._http = http
        self._stream: httpx.Response | None = None
        self._chunks: Iterator[bytes] = iter(())
        self._patience = 0.0

    def take(self, step: Step) -> Answer | bytes | None:
        """Take a step. Raises `Lost`."""
        match step:
            case Call():
                return self._call(step)
            case Open(call):
                return self._open(call)
            case Read(seconds):
                return self._read(seconds)
            case Pause(seconds):
                time.sleep(seconds)
            case Close():
                self.close()
        return None

    def close(self) -> None:
        stream, self._stream = self._stream, None
        if stream:
            with suppress(httpx.HTTPError):
                stream.close()

    def _call(self, call: Call) -> Answer:
        deadline = time.monotonic() + call.seconds
        try:
            response = self._http.send(request_of(self._config, self._http, call, call.seconds), stream=True)
            try:
                content = bytearray()
                for chunk in response.iter_bytes():
                    content += chunk
                    if time.monotonic() > deadline:
                        raise Lost(f"the answer had no end after {call.seconds:.1f} s")
            finally:
                response.close()
        except httpx.TransportError as error:
            raise Lost(f"{type(error).__name__}: {error}") from None
        return answer_of(response, bytes(content))

    def _open(self, call: Call) -> Answer:
        self.close()
        try:
            self._stream = self._http.send(request_of(self._config, self._http, call, call.seconds), stream=True)
            self._patience = call.seconds
            self._chunks = self._stream.iter_bytes()
            return answer_of(self._stream, b"")
        except httpx.TransportError as error:
            raise Lost(str(error)) from None

    def _read(self, seconds: float) -> bytes:
        if seconds < self._patience * NEARLY:
            raise Lost("the stream would wait for too long")
        try:
            return next(self._chunks, b"")
        except httpx.TransportError as error:
            raise Lost(str(error)) from None
