"""`AsyncClient`: awaits the steps of its operations. Of the same shape as `Client`."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing, suppress
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, Unpack, overload

from joblease.client import operations
from joblease.client.errors import JobLeaseError
from joblease.client.following import SILENCE, Following, deadline_of
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


class AsyncJob(AnyJob):
    """A job. Its methods raise `JobLeaseError`s."""

    def __init__(self, client: "AsyncClient", made: Mapping[str, Any], snapshot: Snapshot | None = None) -> None:
        super().__init__(made, snapshot)
        self._client = client

    async def refresh(self) -> Snapshot:
        """Look at it."""
        self.snapshot = await self._client.run(operations.look(self.ref, self._client.timeout))
        return self.snapshot

    async def wait(self, timeout: float | None = None) -> Snapshot:  # noqa: ASYNC109 - as `Job` has it
        """Wait for its end, for so many seconds. Raises `NotYet`; how it has ended is no error."""
        self.snapshot = await self._client.run(self._client.following(self.ref, timeout).end())
        return self.snapshot

    async def result(self, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - as `Job` has it
        """Wait for its end; what the handler returned. Raises `JobFailed`, `JobWasCancelled`, `NotYet`."""
        return result_of(await self.wait(timeout))

    def events(self, *, after: int = 0, data: bool = False, timeout: float | None = None) -> AsyncIterator[Event]:
        """What happens to it, from the event `after` on, until its outcome, which is the last one.

        `data`: live events have their data, too, which costs a read of the history each. Raises `NotYet`.
        """
        return self._client.iterate(self._client.following(self.ref, timeout, after, data=data).events())

    async def cancel(self) -> None:
        """Let it end. Raises `Refused` (409) when it has ended."""
        await self._act("cancel")

    async def suspend(self) -> None:
        """Let it wait until `resume`. Raises `Refused` (409) when it runs or has ended."""
        await self._act("suspend")

    async def resume(self) -> None:
        """Let it go on after `suspend`."""
        await self._act("resume")

    async def retry(self) -> "AsyncJob":
        """Submit a job like it, which has ended."""
        return AsyncJob(self._client, await self._client.run(operations.retry(self.ref, self._client.timeout)))

    async def change(self, *, priority: int | None = None, ttl: int | None = None) -> None:
        """Change its priority while it waits, or when its `JobRequest` is deleted."""
        await self._client.run(operations.change(self.ref, changes(priority, ttl), self._client.timeout))

    async def _act(self, verb: str) -> None:
        await self._client.run(operations.act(self.ref, verb, self._client.timeout))


class AsyncClient:
    """`Client` for asyncio: the same arguments. Use it in an `async with`, or `close` it, in one event loop.

    A token's function is called in the event loop.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | Callable[[], str] | None = None,
        ca: str | os.PathLike[str] | None = None,
        timeout: float = 30.0,
        plain: bool = False,
        transport: httpx.AsyncBaseTransport | None = None,
        **options: Unpack[Options],
    ) -> None:
        self._config = Config.of(url, token, ca, timeout, options, plain=plain)
        self._transport = transport
        self._http: httpx.AsyncClient | None = self._open()

    @property
    def timeout(self) -> float:
        """Seconds for each call."""
        return self._config.timeout

    @property
    def url(self) -> str:
        """The dashboard's address."""
        return self._config.place.url

    @overload
    async def submit(
        self, job: str, parameters: Mapping[str, Any] | None = None, /, **options: Unpack[Options]
    ) -> AsyncJob: ...
    @overload
    async def submit(self, job: Submission, /) -> AsyncJob: ...
    @overload
    async def submit(
        self, job: Callable[Concatenate[JobContext, P], Any], /, *args: P.args, **parameters: P.kwargs
    ) -> AsyncJob: ...
    async def submit(self, job: Any, /, *args: Any, **more: Any) -> AsyncJob:
        """Submit a job: `("resize-images", {"paths": […]}, key="order-17")`, `(resize, paths=[…])`, or a `submission`.

        Raises `TypeError` and `ValueError` for what cannot be right, before anything is sent; then `KeyConflict`,
        `Refused`, `Unreachable`.
        """
        item = job if isinstance(job, Submission) else submission(job, *args, **more)
        return AsyncJob(self, await self.run(operations.submit(item, self._config.options, self.timeout)))

    async def submit_many(self, jobs: Iterable[Submission]) -> list[AsyncJob | JobLeaseError]:
        """Submit many, a thousand at a time. For each, in their order, the job, or the error that it alone has."""
        found = await self.run(operations.submit_many(list(jobs), self._config.options, self.timeout))
        return [each if isinstance(each, JobLeaseError) else AsyncJob(self, each) for each in found]

    async def job(self, job_id: str) -> AsyncJob:
        """A job of which the id is known. Raises `JobNotFound`, `ValueError`."""
        found = await self.run(operations.look(operations.ref_of(job_id), self.timeout))
        return AsyncJob(self, known(found), found)

    async def jobs(
        self,
        *,
        namespace: str | None = None,
        state: str | None = None,
        handler: str | None = None,
        group: str | None = None,
    ) -> AsyncIterator[AsyncJob]:
        """All jobs to which that applies, the last submitted first; pages are read as they are needed."""
        query = listed(namespace, state, handler, group)
        async for found in self.iterate(operations.jobs(query, self.timeout)):
            yield AsyncJob(self, known(found), found)

    def select(
        self,
        *,
        namespace: str | None = None,
        labels: str | Mapping[str, str] | None = None,
        handler: str | None = None,
        state: str | None = None,
    ) -> Selection[Awaitable[Outcome]]:
        """The jobs of a namespace (the client's) to which all of that applies, to do something to all of them.

        `labels`: a Kubernetes label selector (`a=b,c!=d`), or labels and their values.
        """
        where = namespace or self._config.options.get("namespace")
        return Selection(self.run, selector_of(where, labels, handler, state), self.timeout)

    async def close(self) -> None:
        """Close the connections."""
        http, self._http = self._http, None
        if http:
            await http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def following(self, ref: Ref, timeout: float | None, after: int = 0, *, data: bool = False) -> Following:
        """How a job is followed; for `Job`."""
        return Following(ref, after, data, deadline_of(timeout), self.timeout)

    async def run(self, steps: Steps[T]) -> T:
        """Take all steps; what comes of them; for `Job`."""
        result: Any = None
        async with aclosing(self.iterate(shown(steps))) as values:
            async for result in values:  # noqa: B007 - the last one counts
                pass
        return result  # type: ignore[no-any-return]

    async def iterate(self, steps: Steps[None]) -> AsyncGenerator[Any, None]:
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
                    answer = await line.take(step)
                except Lost as lost:
                    error = lost
        except StopIteration:
            return
        finally:
            await line.close()
            steps.close()

    def _opened(self) -> httpx.AsyncClient:
        if self._http is None:
            raise JobLeaseError("this client was closed")
        return self._http

    def _open(self) -> httpx.AsyncClient:
        place, tls = self._config.place, self._config.tls
        with opening():
            return httpx.AsyncClient(
                base_url=place.url, verify=tls, trust_env=place.tls, limits=limits(), transport=self._transport
            )


class _Line:
    """The connection of one operation; at most one stream."""

    def __init__(self, config: Config, http: httpx.AsyncClient) -> None:
        self._config = config
        self._http = http
        self._stream: httpx.Response | None = None
        self._chunks: AsyncIterator[bytes] | None = None

    async def take(self, step: Step) -> Answer | bytes | None:
        """Take a step. Raises `Lost`."""
        match step:
            case Call():
                return await self._call(step)
            case Open(call):
                return await self._open(call)
            case Read(seconds):
                return await self._read(seconds)
            case Pause(seconds):
                await asyncio.sleep(seconds)
            case Close():
                await self.close()
        return None

    async def close(self) -> None:
        stream, self._stream = self._stream, None
        if stream:
            with suppress(httpx.HTTPError):
                await stream.aclose()

    async def _call(self, call: Call) -> Answer:
        try:
            async with asyncio.timeout(call.seconds):
                response = await self._http.send(request_of(self._config, self._http, call, call.seconds))
        except TimeoutError:
            raise Lost(f"no answer in {call.seconds:.1f} s") from None
        except httpx.TransportError as error:
            raise Lost(f"{type(error).__name__}: {error}") from None
        return answer_of(response, response.content)

    async def _open(self, call: Call) -> Answer:
        await self.close()
        try:
            request = request_of(self._config, self._http, call, SILENCE)
            async with asyncio.timeout(call.seconds):
                self._stream = await self._http.send(request, stream=True)
            self._chunks = self._stream.aiter_bytes()
            return answer_of(self._stream, b"")
        except (httpx.TransportError, TimeoutError) as error:
            raise Lost(str(error)) from None

    async def _read(self, seconds: float) -> bytes:
        if self._chunks is None:
            return b""
        try:
            async with asyncio.timeout(seconds):
                return await anext(self._chunks, b"")
        except (httpx.TransportError, TimeoutError) as error:
            raise Lost(str(error)) from None
