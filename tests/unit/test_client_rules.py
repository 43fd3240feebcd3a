"""The client's operations, step by step, without I/O; where it finds the dashboard; what it refuses to send."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from joblease import JobContext, handler
from joblease.client import (
    AsyncClient,
    Client,
    JobLeaseError,
    KeyConflict,
    NotConfigured,
    NotYet,
    Refused,
    Submission,
    Unreachable,
    operations,
    submission,
)
from joblease.client.exchange import exchange
from joblease.client.following import Following, deadline_of
from joblease.client.job import listed
from joblease.client.operations import Ref
from joblease.client.place import SERVICE, find
from joblease.client.selection import selector_of
from joblease.client.sse import Parser
from joblease.client.steps import Answer, Call, Close, Lost, Open, Pause, Read, Show, Step, Steps
from joblease.client.tokens import FileToken, given


@handler("client-resize")
def resize(job: JobContext, paths: list[str], width: int = 800) -> dict[str, int]:
    return {"resized": len(paths)}


@handler("client-anything")
def anything(job: JobContext, /, **parameters: Any) -> None: ...


def deep() -> Any:
    found: Any = 1
    for _ in range(100_000):
        found = [found]
    return found


def submitted(**options: Any) -> Any:
    return play(operations.submit(submission("noop", **options), {}, 30), answer(201, {"jobId": "1"}))


def answer(status: int, content: Any = None, **headers: str) -> Answer:
    return Answer(
        status, {name.replace("_", "-"): value for name, value in headers.items()}, json.dumps(content).encode()
    )


def play(steps: Steps[Any], *answers: Any) -> tuple[list[Step], Any]:
    """The steps that are asked for with these answers, and what comes of them: a result or an error."""
    rest, asked, given = iter(answers), [], None
    try:
        while True:
            step = steps.throw(given) if isinstance(given, Exception) else steps.send(given)
            asked.append(step)
            given = next(rest) if isinstance(step, Call | Open | Read) else None
    except StopIteration as end:
        return asked, end.value
    except JobLeaseError as error:
        return asked, error


def calls(asked: list[Step]) -> list[Call]:
    return [step for step in asked if isinstance(step, Call)]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which a test moves on."""
    now = [1_000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


MADE = {"jobId": "1", "namespace": "default", "name": "a", "handler": "noop", "created": True}


def test_a_submission_is_sent_again_as_it_was_until_it_has_its_answer() -> None:
    item = submission("noop", {"n": 1})
    asked, made = play(
        operations.submit(item, {}, 30), Lost("reset"), answer(503), answer(429, retry_after="2"), answer(200, MADE)
    )
    assert made == MADE
    sent = [json.loads(call.content or b"") for call in calls(asked)]
    assert sent == [{"metadata": {}, "spec": {"handler": "noop", "parameters": {"n": 1}}, "submissionId": item.id}] * 4
    waited = [step.seconds for step in asked if isinstance(step, Pause)]
    assert (len(waited), waited[0] <= 0.1, waited[2]) == (3, True, 2)


@pytest.mark.parametrize("status", [400, 403, 404, 409, 413, 422, 500])
def test_a_refusal_is_not_sent_again(status: int) -> None:
    asked, error = play(
        operations.submit(submission("noop"), {}, 30), answer(status, {"detail": "no", "field": "spec.x"})
    )
    assert (len(calls(asked)), type(error).__mro__[1] in (Refused, JobLeaseError)) == (1, True)
    assert (error.status, error.field, str(error)[:24]) == (status, "spec.x", "a job of noop was refuse")


def test_a_right_that_is_missing_is_said_at_once() -> None:
    lacks = {"type": "about:blank", "title": "The dashboard lacks a right", "status": 502, "detail": "no create"}
    asked, made = play(operations.submit(submission("noop"), {}, 30), answer(502, lacks))
    assert (len(asked), type(made), made.status) == (1, Refused, 502)
    assert "no create. Whoever has installed the dashboard" in str(made)
    status = {"kind": "Status", "status": "Failure", "message": 'services "x" is forbidden', "code": 403}
    asked, made = play(operations.submit(submission("noop"), {}, 30), answer(403, status))
    assert (len(asked), "is forbidden" in str(made), "services/proxy" in str(made)) == (1, True, True)
    missing = {"kind": "Status", "message": 'services "x" not found', "code": 404}
    _, made = play(operations.submit(submission("noop"), {}, 30), answer(404, missing))
    assert (type(made), "no such Service" in str(made)) == (Refused, True)


def test_of_many_one_for_which_a_right_is_missing_is_not_sent_again() -> None:
    lacks = {"status": 502, "problem": {"title": "The dashboard lacks a right", "status": 502, "detail": "no create"}}
    asked, made = play(operations.submit_many([submission("noop")], {}, 30), answer(200, {"results": [lacks]}))
    assert (len(asked), type(made[0])) == (1, Refused)


def test_what_is_to_be_taken_unchecked_is_said_in_requests_of_its_own() -> None:
    items = [submission("a"), submission("b", unchecked=True), submission("c")]
    _, made = play(operations.submit(items[1], {}, 30), answer(201, {"jobId": "b"}))
    assert made == {"jobId": "b"}
    job = {name: {"status": 201, "job": {"jobId": name}} for name in "abc"}
    asked, made = play(
        operations.submit_many(items, {}, 30),
        answer(200, {"results": [job["a"], job["c"]]}),
        answer(200, {"results": [job["b"]]}),
    )
    assert [dict(each.query) for each in calls(asked)] == [{}, {"unchecked": "true"}]
    assert [each["jobId"] for each in made] == ["a", "b", "c"]
    assert b"unchecked" not in b"".join(each.content or b"" for each in calls(asked))


def test_a_refused_token_is_read_anew_once() -> None:
    asked, error = play(exchange(Call("GET", "/"), "it"), answer(401, {"detail": "who?"}), answer(401, {}))
    assert ([call.fresh_token for call in calls(asked)], error.status) == ([False, True], 401)


def without_answers(steps: Steps[Any], clock: list[float], step: Step) -> tuple[int, Any]:
    """How often it is tried when each try takes all its time, and what comes of it."""
    tries = 0
    try:
        while True:
            assert isinstance(step, Call | Pause)
            clock[0] += step.seconds
            tries += isinstance(step, Call)
            step = steps.throw(Lost("reset")) if isinstance(step, Call) else steps.send(None)
    except StopIteration as end:
        return tries, end.value
    except JobLeaseError as error:
        return tries, error


def test_it_gives_up_in_time(clock: list[float]) -> None:
    steps = exchange(Call("GET", "/", seconds=10), "it")
    tries, error = without_answers(steps, clock, next(steps))
    assert str(error) == "it: the dashboard gave no answer in 10 s (reset)"
    assert (type(error), tries, clock[0] <= 1_010) == (Unreachable, 3, True)
    busy, error = play(exchange(Call("GET", "/", seconds=10), "it"), answer(429, {"detail": "slow"}, retry_after="60"))
    assert (len(busy), error.status) == (1, 429)


@pytest.mark.parametrize(("content", "said"), [(b"<html>", "is no JSON"), (b"", "is no JSON")])
def test_what_is_no_answer_of_the_dashboard_is_said(content: bytes, said: str) -> None:
    _, error = play(exchange(Call("GET", "/"), "it"), Answer(200, {}, content))
    assert isinstance(error, Unreachable)
    assert said in str(error)
    _, error = play(exchange(Call("GET", "/"), "it"), Answer(404, {}, content))
    assert "something in between" in str(error)


def test_a_key_conflict_says_what_differs() -> None:
    problem = {"detail": "other work", "jobId": "7", "differences": [{"field": "queue", "first": '"a"', "now": '"b"'}]}
    _, error = play(operations.submit(submission("noop", key="k"), {}, 30), answer(409, problem))
    assert isinstance(error, KeyConflict)
    assert (error.job_id, error.differences) == ("7", problem["differences"])


def test_of_many_only_those_are_sent_again_that_could_not_be_made_just_then() -> None:
    items = [submission("noop", {"n": n}) for n in range(1_002)]
    busy, bad = {"status": 503, "problem": {"status": 503}}, {"status": 422, "problem": {"status": 422, "detail": "no"}}
    first = [{"status": 201, "job": {**MADE, "jobId": str(n)}} for n in range(1_000)]
    first[5], first[7] = busy, bad
    rest = [{"status": 200, "job": {**MADE, "jobId": str(n)}} for n in (1_000, 1_001)]
    asked, found = play(
        operations.submit_many(items, {}, 30),
        answer(200, {"results": first}),
        answer(200, {"results": [{"status": 200, "job": {**MADE, "jobId": "5"}}]}),
        answer(200, {"results": rest}),
    )
    assert [len(json.loads(call.content or b"")["requests"]) for call in calls(asked)] == [1_000, 1, 2]
    assert isinstance(found[7], Refused)
    assert [each["jobId"] for each in found if isinstance(each, dict)] == [str(n) for n in range(1_002) if n != 7]


def test_of_many_those_that_were_made_are_told_when_the_dashboard_goes_away(clock: list[float]) -> None:
    items = [submission("noop") for _ in range(1_001)]
    steps = operations.submit_many(items, {}, 1)
    next(steps)
    step = steps.send(answer(200, {"results": [{"status": 201, "job": MADE}] * 1_000}))
    _, found = without_answers(steps, clock, step)
    assert found[:1_000] == [MADE] * 1_000
    assert isinstance(found[1_000], Unreachable)


def event(sequence: int, state: str = "Running") -> dict[str, Any]:
    return {
        "jobId": "1", "sequence": sequence, "status": state, "state": state, "timestamp": "2026-01-01T00:00:00Z",
    }  # fmt: skip


def sent(sequence: int, state: str = "Running", kind: str = "job") -> bytes:
    return f"id: {sequence}\nevent: {kind}\ndata: {json.dumps(event(sequence, state))}\n\n".encode()


def page(*events: dict[str, Any], **more: Any) -> Answer:
    return answer(200, {"job": {}, "events": events, **more})


def told(asked: list[Step]) -> list[int]:
    return [step.value.sequence for step in asked if isinstance(step, Show)]


def test_events_go_on_where_they_were_and_what_is_missing_is_read_from_the_history() -> None:
    asked, _ = play(
        Following(Ref("1", "x", "a")).events(),
        answer(200), page(event(1), event(2), next=2), page(event(3)),  # opened; the history in two pages
        sent(3) + sent(4), sent(7), page(event(5), event(6), event(7)),  # again what is known; a hole
        Lost("reset"), answer(200), page(),
        sent(7, kind="missed"), page(event(8)),
        sent(9, "Completed"),
    )  # fmt: skip
    assert told(asked) == list(range(1, 10))
    opened = [step.call for step in asked if isinstance(step, Open)]
    assert [call.headers for call in opened] == [{}, {"Last-Event-ID": "7"}]
    assert opened[0].query == {"jobId": "1", "namespace": "x"}
    assert isinstance(asked[-1], Close)
    assert [call.query for call in calls(asked)] == [{}, {"after": "2"}, {"after": "4"}, {"after": "7"}, {"after": "7"}]


def test_events_without_a_stream_come_from_the_history_with_longer_and_longer_pauses() -> None:
    asked, _ = play(
        Following(Ref("1")).events(),
        answer(429), page(event(1)), Lost("no"), page(), answer(403), page(event(2), event(3, "Failed")),
    )  # fmt: skip
    assert told(asked) == [1, 2, 3]
    assert len([step for step in asked if isinstance(step, Pause)]) == 2


def test_a_stream_that_does_not_hear_is_not_believed(clock: list[float]) -> None:
    stale = b"id: 1\nevent: stale\ndata: {}\n\n"
    steps = Following(Ref("1")).events()
    asked, _ = play(steps, answer(200), page(event(1)), stale, page(), b": alive\n\n", page(event(2, "Completed")))
    assert told(asked) == [1, 2]


def test_a_job_whose_trail_has_not_begun_is_waited_for() -> None:
    row = {"jobId": "1", "namespace": "x", "name": "a", "handler": "h", "state": "Submitted"}
    asked, _ = play(
        Following(Ref("1", "x", "a")).events(),
        answer(200), answer(404, {}), answer(200, {"job": row}), sent(1, "Queued"), sent(2, "Completed"),
    )  # fmt: skip
    assert told(asked) == [1, 2]
    assert calls(asked)[1].query == {"namespace": "x", "name": "a"}


def test_waiting_has_an_end(clock: list[float]) -> None:
    row = {"jobId": "1", "namespace": "x", "name": "a", "handler": "h", "state": "Queued"}
    steps = Following(Ref("1", "x", "a"), deadline=1_005).end()
    next(steps)
    steps.send(answer(200, {"job": row}))
    steps.send(answer(200))
    read = steps.send(page())
    assert read == Read(5)
    clock[0] += 5
    with pytest.raises(NotYet, match=r"job a .* has not ended"):
        steps.throw(Lost("nothing came"))


def test_a_stream_is_read_in_whatever_pieces_it_comes() -> None:
    text = b"retry: 2000\nid: 5\n\n: alive\nid: 6\r\n\r\nevent: job\ndata: {\ndata: }\nid: 7\n\nevent: empty\n\n"
    for size in (1, 2, 7, len(text)):
        parser, found = Parser(), list[Any]()
        for start in range(0, len(text), size):
            found += parser.feed(text[start : start + size])
        assert [each for each in found if each.kind] == [("job", "{\n}")]
        assert parser.last_id == "7"
    with pytest.raises(ValueError, match="without an end"):
        list(Parser().feed(b"x" * (2 << 20)))


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        (lambda: submission(resize), TypeError, "'client-resize': missing a required argument: 'paths'"),  # type: ignore[call-overload]
        (lambda: submission(resize, paths=[], depth=1), TypeError, "unexpected keyword argument 'depth'"),  # type: ignore[call-overload]
        (lambda: submission(resize, paths=[], key="k"), TypeError, "argument 'key'. Options are given with submission"),  # type: ignore[call-overload]
        (lambda: submission(resize, paths="a"), ValueError, "paths: Input should be a valid list"),  # type: ignore[call-overload]
        (lambda: submission(json.dumps), TypeError, "is no handler"),  # type: ignore[call-overload]
        (lambda: submission("noop", {"x": float("nan")}), ValueError, "not JSON compliant"),
        (lambda: submission("noop", {"x": object()}), TypeError, "a parameter of handler 'noop'"),
        (lambda: submission("noop", {"x": "\ud800"}), ValueError, "surrogate"),
        (lambda: submission("noop", {"x": deep()}), ValueError, "a parameter of handler 'noop' is nested too deep"),
        (lambda: submission("noop", {"x": [2**63]}), ValueError, "an integer of more than 64 bits; pass it as text"),
        (lambda: submission("noop", {"x": 10**5_000}), ValueError, "a parameter of handler 'noop' cannot be sent"),
        (lambda: submission("noop", {"x": {(1, 2): 3}}), TypeError, "a parameter of handler 'noop' cannot be sent"),
        (lambda: submitted(labels={"a": object()}), TypeError, "an option of a job of noop cannot be sent"),
        (lambda: submitted(priority=float("nan")), ValueError, "an option of a job of noop cannot be sent"),
        (lambda: submitted(name="\ud800"), ValueError, "an option of a job of noop has half a character"),
        (
            lambda: submitted(annotations={"a": "y" * 2_000_000}),
            ValueError,
            "bytes with its options; at most 1048576 fit",
        ),
        (lambda: play(operations.submit_many(["noop"], {}, 30)), TypeError, "takes submissions"),  # type: ignore[list-item]
        (lambda: selector_of(None, None, "", None), ValueError, "handler is empty, which would select all"),
        (lambda: selector_of(None, {}, None, None), ValueError, "labels is empty, which would select all"),
        *(
            (lambda wrong=wrong: operations.ref_of(wrong), ValueError, "a job's id is expected")
            for wrong in ("", "..", "a/b", "\ud800", None)
        ),
        (lambda: deadline_of(float("nan")), ValueError, "timeout: seconds or None"),
        (lambda: deadline_of("5"), TypeError, "timeout: seconds or None"),  # type: ignore[arg-type]
        *(
            (
                lambda wrong=wrong: Client("http://127.0.0.1:1", timeout=wrong),
                ValueError,
                "timeout: seconds are expected",
            )
            for wrong in (None, "5", 0, float("inf"), 1e10)
        ),
        (lambda: submission("noop", {"x": "y" * 70_000}), ValueError, "70008 bytes as JSON; at most 65536"),
        (lambda: submission("noop", [1]), TypeError, "are a dict, not list"),  # type: ignore[call-overload]
        (lambda: submission("noop", key="k" * 10_240), ValueError, "key: 1 to 255"),
        (lambda: submission("noop", key="a\nb"), ValueError, "key: 1 to 255"),
        (lambda: submission("noop", keys="a"), TypeError, "no option 'keys'; known are key, "),  # type: ignore[call-overload]
        (lambda: submission("noop", deadline=1.5), ValueError, "deadline: a timedelta or whole seconds"),
        (lambda: submission("noop", start_after=datetime(2026, 1, 1)), ValueError, "with a time zone"),  # noqa: DTZ001
    ],
)
def test_a_wrong_submission_is_refused_before_it_is_sent(wrong: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said.replace("(", r"\(")):
        wrong()


def test_what_a_submission_says() -> None:
    when = datetime(2026, 1, 1, tzinfo=UTC)
    item = submission(resize, ["a"], width=3).options(
        key="order 17", key_ttl=timedelta(days=1), group="g", limit=2, priority=3, queue="q", labels={"a": "b"},
        namespace="n", name="x", max_attempts=5, deadline=timedelta(hours=2), start_after=when, ttl=-1,
    )  # fmt: skip
    assert item.body({"queue": "other", "description": "d"}) == {
        "metadata": {"labels": {"a": "b"}, "namespace": "n", "name": "x"},
        "spec": {
            "handler": "client-resize", "parameters": {"paths": ["a"], "width": 3}, "key": "order 17",
            "keyTTLSeconds": 86_400, "concurrency": {"group": "g", "limit": 2}, "priority": 3, "queue": "q",
            "retry": {"maxAttempts": 5}, "activeDeadlineSeconds": 7_200, "startAfter": "2026-01-01T00:00:00+00:00",
            "ttlSecondsAfterFinished": -1, "description": "d",
        },
    }  # fmt: skip
    said = submission(anything, day=when, more={"a"})
    assert said.parameters == {"day": "2026-01-01T00:00:00Z", "more": ["a"]}
    assert Submission("a").id != Submission("a").id


POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}


def test_where_the_dashboard_is(tmp_path: Path) -> None:
    account = tmp_path / "token"
    account.write_text("of-the-pod")
    config = tmp_path / "config"
    config.write_text(
        "{current-context: c, contexts: [{name: c, context: {user: u}}], users: [{name: u, user: {token: t}}]}"
    )
    none = {"KUBECONFIG": str(tmp_path / "none")}

    def found(url: str | None = None, **environment: str) -> tuple[str, str | None]:
        place = find(url, None, environment={**none, **environment}, account=account)
        return place.url, place.token(False) if place.token else None  # noqa: FBT003

    assert found(**POD) == (SERVICE, "of-the-pod")
    beside = {"JOBLEASE_DASHBOARD_SERVICE_HOST": "10.1.2.3", "JOBLEASE_DASHBOARD_SERVICE_PORT": "8080"}
    assert found(**POD, **beside) == ("http://10.1.2.3:8080", "of-the-pod")
    assert found(**POD, JOBLEASE_DASHBOARD_URL="https://jobs.example.com/") == (
        "https://jobs.example.com",
        "of-the-pod",
    )
    assert found("http://dashboard.other.svc", **POD) == ("http://dashboard.other.svc", "of-the-pod")
    assert found("http://jobs.example.com", **POD) == ("http://jobs.example.com", None)
    assert found("https://jobs.example.com", KUBECONFIG=str(config)) == ("https://jobs.example.com", "t")
    assert found("http://127.0.0.1:8080", KUBECONFIG=str(config)) == ("http://127.0.0.1:8080", "t")
    assert found("http://dashboard.other.svc", KUBECONFIG=str(config)) == ("http://dashboard.other.svc", None)
    with pytest.raises(NotConfigured, match="set JOBLEASE_DASHBOARD_URL, or pass url="):
        found()
    with pytest.raises(NotConfigured, match=r"not sent to http://jobs.example.com: .* pass plain=True"):
        find("http://jobs.example.com", "secret", environment={})
    assert find("http://jobs.example.com", "secret", plain=True, environment={}).token
    for bad in ("jobs.example.com", "ftp://x", "https://x:99999", "https://u@x"):
        with pytest.raises(NotConfigured, match="address"):
            find(bad, None, environment={})
    with pytest.raises(NotConfigured, match="token= is empty"):
        find("https://x", " ", environment={})
    proxied = "https://10.0.0.1:6443/api/v1/namespaces/joblease/services/joblease-dashboard:http/proxy"
    assert find(proxied, "t", environment={}).token_headers == ("Authorization", "X-JobLease-Authorization")
    for plain in ("https://x", "https://x/api/v1/namespaces/a/services", "https://x/services/a/proxy"):
        assert find(plain, "t", environment={}).token_headers == ("Authorization",)


def test_a_pods_token_is_read_anew_when_it_is_rotated(tmp_path: Path, clock: list[float]) -> None:
    path = tmp_path / "token"
    token = FileToken(path)
    with pytest.raises(NotConfigured, match="cannot be read: No such file"):
        token(False)  # noqa: FBT003

    def write(text: str) -> None:
        path.write_text(text)
        os.utime(path, (1, 1))

    write("one\n")
    assert token(False) == "one"  # noqa: FBT003
    write("two")
    assert token(False) == "one"  # noqa: FBT003
    assert token(True) == "two"  # noqa: FBT003
    write("three")
    clock[0] += 61
    assert token(False) == "three"  # noqa: FBT003
    path.write_text("four")
    assert token(False) == "four"  # noqa: FBT003


TYPES = """
from joblease import JobContext, handler
from joblease.client import AsyncClient, Client, submission

@handler("resize")
def resize(job: JobContext, paths: list[str], width: int = 800) -> None: ...

@handler("resize-async")
async def resize_async(job: JobContext, paths: list[str]) -> None: ...

def use(client: Client) -> None:
    client.submit(resize, paths=["a"], width=3)
    client.submit(resize_async, ["a"])
    client.submit("resize", {"paths": ["a"]}, key="k", priority=3)
    client.submit(submission(resize, paths=["a"]).options(key="k"))
    client.submit(resize, wrong=1)  # wrong
    client.submit(resize, paths=1)  # wrong
    client.submit(resize_async)  # wrong
    client.submit("resize", {"paths": []}, keys="k")  # wrong
    submission(resize, paths=[], depth=3)  # wrong

async def use_async(client: AsyncClient) -> None:
    await client.submit(resize, paths=["a"])
    await client.submit(resize, wrong=1)  # wrong
"""


def test_a_type_checker_sees_a_wrong_call(tmp_path: Path) -> None:
    (tmp_path / "use.py").write_text(TYPES)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "use.py"]
    environment = {**os.environ, "MYPYPATH": str(Path(__file__).parents[2] / "core")}
    found = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    lines = {int(line.split(":")[1]) for line in found.stdout.splitlines() if ": error:" in line}
    assert lines == {number for number, line in enumerate(TYPES.splitlines(), 1) if line.endswith("# wrong")}, found


def test_a_program_that_submits_by_name_imports_nothing_that_takes_long() -> None:
    code = "import sys, joblease.client; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert "httpx" in loaded
    slow = {"pydantic", "kubernetes", "aiohttp", "azure", "aio_pika", "yaml", "structlog", "asyncio", "rich", "click"}
    assert not loaded & slow


@pytest.mark.parametrize("wrong", ["secret\nword", None, b"secret", "s\xe9cret"])
def test_a_function_that_gives_no_token_is_told_so_and_its_token_is_not(wrong: Any) -> None:
    with pytest.raises(NotConfigured, match="what the function token= gives") as raised:
        given(lambda: wrong)(False)  # noqa: FBT003 - a `Token`
    assert "secret" not in str(raised.value)


def test_a_token_of_a_function_may_end_with_a_line_break() -> None:
    """As that of a file or of `kubectl create token`."""
    assert given(lambda: "token\n")(False) == "token"  # noqa: FBT003 - a `Token`
    assert given(lambda: "")(False) == ""  # noqa: FBT003 - a `Token`


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("name", "value"), [("HTTPS_PROXY", "ftp://x"), ("HTTPS_PROXY", "http://[::1"), ("NO_PROXY", "fe80::/10,a")]
)
def test_a_proxy_of_the_environment_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, kind: Any, name: str, value: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:1")
    monkeypatch.setenv(name, value)
    with pytest.raises(NotConfigured, match="HTTPS_PROXY, ALL_PROXY or NO_PROXY"):
        kind("https://jobs.example.com")


@pytest.mark.parametrize("url", ["http://jobs.example.com\n", "http://\ud800", "http://jobs example"])
def test_an_address_with_other_characters_is_none(url: str) -> None:
    with pytest.raises(NotConfigured, match="the dashboard's address"):
        Client(url)


def test_a_namespace_that_is_missing_is_no_missing_job() -> None:
    missing = {"status": 404, "title": "Not found", "detail": 'namespaces "x" not found'}
    _, error = play(operations.submit(submission("noop"), {}, 30), answer(404, missing))
    assert (type(error), error.status) == (Refused, 404)
    results = {"results": [{"status": 404, "problem": missing}]}
    _, (error,) = play(operations.submit_many([submission("noop")], {}, 30), answer(200, results))
    assert type(error) is Refused


def test_jobs_are_looked_for_by_texts() -> None:
    with pytest.raises(TypeError, match=r"handler: text \(str\) is expected, not <function"):
        listed(None, None, listed, None)  # type: ignore[arg-type] # as callers do who may submit functions
    with pytest.raises(TypeError, match="state: text"):
        selector_of(None, None, None, 5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="deadline: a timedelta or whole seconds"):
        submission("noop").options(deadline=True)


@pytest.mark.parametrize("content", [["x"], {"ok": True}, None])
def test_whatever_else_answers_is_no_dashboard(content: Any) -> None:
    ref = Ref("1")
    for steps in (
        operations.submit(submission("noop"), {}, 30), operations.look(ref, 30), operations.retry(ref, 30),
        operations.jobs({}, 30), operations.bulk("cancel", {}, 30),
    ):  # fmt: skip
        _, error = play(steps, answer(200, content))
        assert isinstance(error, Unreachable)
        assert "Is the address that of JobLease's dashboard?" in str(error)
    _, (error,) = play(operations.submit_many([submission("noop")], {}, 30), answer(200, content))
    assert isinstance(error, Unreachable)


def test_submissions_that_are_made_of_one_are_several() -> None:
    """With one id, all but the first would be refused: it was submitted with other content."""
    one = submission("noop")
    assert len({one.id, *(one.options(priority=n).id for n in range(3))}) == 4
