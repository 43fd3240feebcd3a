"""The dashboard's API over jobs in memory, as far as a client uses it."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import httpx
from pydantic import ValidationError

from joblease.content import content_of, differences
from joblease.handlers import PermanentError, find, policy_of
from joblease.jobrequest import JobRequestSpec, repeated
from joblease.parameters import fit
from joblease.policy import resolve
from joblease.states import Kind
from joblease.testing.bulk import selected
from joblease.testing.engine import Engine, MemoryJob, unknown

_JOB = re.compile(r"/api/(requests|jobs)/([^/]+)(?:/(\w+))?")
_MANY = re.compile(r"/api/requests:(\w+)")


class _Problem(Exception):
    def __init__(self, status: int, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.content = {"status": status, "detail": detail, **more}


class Api:
    """Answers requests."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def answer(self, request: httpx.Request) -> httpx.Response:
        """The answer to a request."""
        try:
            return self._answer(request, json.loads(request.content or b"{}"))
        except _Problem as problem:
            return httpx.Response(problem.content["status"], json=problem.content)

    def _answer(self, request: httpx.Request, body: Any) -> httpx.Response:
        match request.method, request.url.path:
            case "POST", "/api/requests":
                made, created = self._submit(body, checked=_checks(request))
                return httpx.Response(201 if created else 200, json=_made(made, created=created))
            case "POST", "/api/requests:batch":
                results = [self._one(each, checked=_checks(request)) for each in body["requests"]]
                return httpx.Response(200, json={"results": results})
            case "GET", "/api/requests":
                return httpx.Response(200, json={"jobs": self._list(request.url.params)})
            case "GET", "/api/stream":
                return self._stream(request.url.params["jobId"])
        if request.method == "POST" and (many := _MANY.fullmatch(request.url.path)):
            return self._bulk(many[1], body)
        found = _JOB.fullmatch(request.url.path)
        job = self._engine.jobs.get(found[2]) if found else None
        if found is None or job is None:
            raise _Problem(404, "there is no such job")
        return self._of_one(job, found[1], request, found[3] or "", body)

    def _of_one(self, job: MemoryJob, kind: str, request: httpx.Request, verb: str, body: Any) -> httpx.Response:
        if kind == "jobs":
            after = int(request.url.params.get("after", 0))
            return httpx.Response(200, json={"job": _row(job), "events": job.events[after:]})
        if request.method == "GET":
            return httpx.Response(200, json=_present(job))
        if request.method == "PATCH":
            _change(job, body)
            return httpx.Response(200, json={"jobId": job.job_id})
        if verb == "retry":
            return httpx.Response(200, json=_made(self._again(job), created=True))
        self._act(job, verb)
        return httpx.Response(200, json={"jobId": job.job_id})

    def _act(self, job: MemoryJob, verb: str) -> None:
        act: Callable[[], None] = {
            "cancel": lambda: self._engine.cancel(job),
            "suspend": lambda: self._suspend(job, suspend=True),
            "resume": lambda: self._suspend(job, suspend=False),
        }[verb]
        if job.state.terminal:
            raise _Problem(409, f"job {job.name} is {job.state}: it is too late to {verb} it")
        act()

    def _bulk(self, action: str, body: Mapping[str, Any]) -> httpx.Response:
        try:
            found = selected(action, body, self._engine.jobs)
        except ValueError as error:
            raise _Problem(422, str(error), field="selector") from None
        for job in () if body["dryRun"] else found:
            if action == "patch":
                _change(job, body["set"])
            elif action == "retry":
                self._again(job)
            else:
                self._act(job, action)
        done = 0 if body["dryRun"] else len(found)
        return httpx.Response(200, json={"matched": len(found), "done": done, "failed": [], "left": 0})

    def _one(self, body: Any, *, checked: bool) -> dict[str, Any]:
        try:
            made, created = self._submit(body, checked=checked)
        except _Problem as problem:
            return {"status": problem.content["status"], "problem": problem.content}
        return {"status": 201 if created else 200, "job": _made(made, created=created)}

    def _submit(self, body: Mapping[str, Any], *, checked: bool) -> tuple[MemoryJob, bool]:
        metadata = body["metadata"]
        namespace = metadata.get("namespace", "default")
        spec = _checked(body["spec"])
        if not isinstance(labels := metadata.get("labels") or {}, dict):
            raise _Problem(422, f"metadata.labels: an object is expected, not {labels!r}", field="metadata.labels")
        content, submission_id = content_of(spec), body.get("submissionId", "")
        for job in [*self._engine.jobs.values()]:
            if submission_id and job.submission_id == submission_id:
                return job, False
            same = (job.namespace, job.spec.handler, job.spec.key) == (namespace, spec.handler, spec.key)
            if spec.key and same and not job.key_expired:
                _compare(job, content)
                return job, False
        if checked:
            _check_fit(spec)
        try:
            policy = resolve(spec, policy_of(spec.handler))
        except ValueError as error:
            raise _Problem(422, str(error), field="spec.parameters") from None
        name = metadata.get("name") or self._engine.new_name(spec.handler)
        job = MemoryJob(namespace, name, spec, content, policy, submission_id, labels)
        self._engine.add(job)
        return job, True

    def _again(self, job: MemoryJob) -> MemoryJob:
        if not job.state.terminal:
            raise _Problem(409, f"job {job.name} is {job.state}: it has not ended")
        spec = job.spec.model_dump(by_alias=True, exclude=None)
        again = JobRequestSpec.model_validate(repeated(spec))
        name = self._engine.new_name(again.handler)
        made = MemoryJob(job.namespace, name, again, job.content, job.policy, "", job.labels)
        self._engine.add(made)
        return made

    def _suspend(self, job: MemoryJob, *, suspend: bool) -> None:
        if job.context:
            raise _Problem(409, f"job {job.name} is {job.state}: it runs")
        if job.spec.suspend != suspend:
            job.spec = job.spec.model_copy(update={"suspend": suspend})
            self._engine.consider(job)

    def _list(self, asked: Mapping[str, str]) -> list[dict[str, Any]]:
        wanted = {name: asked[name] for name in ("namespace", "handler", "state", "group") if name in asked}
        rows = [_row(job) for job in reversed([*self._engine.jobs.values()])]
        return [row for row in rows if wanted.items() <= row.items()]

    def _stream(self, job_id: str) -> httpx.Response:
        job = self._engine.jobs.get(job_id)
        if job and not job.state.terminal:
            raise AssertionError(f"job {job.name} is {job.state}, and nobody will run it: call run_waiting() first")
        return httpx.Response(200)


def _change(job: MemoryJob, sets: Mapping[str, Any]) -> None:
    job.spec = _checked({**job.spec.model_dump(mode="json", by_alias=True), **sets})


def _checks(request: httpx.Request) -> bool:
    return str(request.url.params.get("unchecked")) != "true"


def _check_fit(spec: JobRequestSpec) -> None:
    if why := unknown(spec.handler):
        raise _Problem(422, why, field="spec.handler")
    try:
        fit(spec.handler, find(spec.handler), spec.parameters)
    except PermanentError as error:
        raise _Problem(422, str(error), field="spec.parameters") from None


def _checked(spec: Any) -> JobRequestSpec:
    try:
        return JobRequestSpec.model_validate_json(json.dumps(spec), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(["spec", *map(str, first["loc"])])
        raise _Problem(422, f"{field}: {first['msg']}, not {first['input']!r}", field=field) from None


def _compare(job: MemoryJob, content: Mapping[str, str]) -> None:
    if found := differences(job.content, content):
        said = "; ".join(map(str, found))
        detail = f"key {job.spec.key!r} of handler {job.spec.handler} is that of job {job.job_id}, other work: {said}"
        raise _Problem(409, detail, field="spec.key", jobId=job.job_id, differences=[asdict(each) for each in found])


def _made(job: MemoryJob, *, created: bool) -> dict[str, Any]:
    named = {"jobId": job.job_id, "namespace": job.namespace, "name": job.name, "handler": job.spec.handler}
    return {**named, "created": created, **({"key": job.spec.key} if job.spec.key else {})}


def _row(job: MemoryJob) -> dict[str, Any]:
    last = job.events[-1]
    return {**last, "group": job.policy.group, "queue": job.spec.queue, "priority": job.spec.priority}


def _present(job: MemoryJob) -> dict[str, Any]:
    last = job.events[-1]
    data = last.get("data") or {}
    if not job.state.terminal:
        return {"job": _row(job)}
    if job.state.kind is Kind.COMPLETED:
        return {"job": _row(job), "result": data.get("result")}
    return {"job": _row(job), "error": data.get("error") or last["message"]}
