"""A handler's policy: how it is written, and what comes of it and a job's spec."""

from datetime import timedelta
from typing import Any

import joblease.testing
import pytest
from joblease import JobContext, handler
from joblease.client import JobFailed, Refused
from joblease.content import content_of
from joblease.handlers import policy_of
from joblease.head import Head, hint_of, hinted
from joblease.jobrequest import JobRequestSpec, repeated
from joblease.messages import JobMessage, now
from joblease.parameters import describe
from joblease.policy import HandlerPolicy, JobPolicy, resolve
from joblease.states import State
from joblease_worker.claim import NothingToRun, _next

POLICY = HandlerPolicy(group="import-{customer}", limit=1, max_attempts=5, active_deadline_seconds=7200)


@handler("policy-import", group="import-{customer}", limit=1, max_attempts=2, deadline="1h30m")
def import_rows(job: JobContext) -> None:
    raise ConnectionError("gone")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"limit": 0}, "limit is to be from 1 to 10000, not 0"),
        ({"limit": "1"}, "limit is to be an integer, not '1'"),
        ({"limit": True}, "limit is to be an integer, not True"),
        ({"max_attempts": 101}, "max_attempts is to be from 1 to 100, not 101"),
        ({"deadline": "soon"}, "deadline is to be a length of time as '2h', '1h30m' or a number of seconds, not"),
        ({"deadline": 0}, "deadline is to be whole seconds, from 1 to 31536000, not 0"),
        ({"deadline": "366d"}, "deadline is to be whole seconds, from 1 to 31536000, not 366d"),
        ({"deadline": timedelta(seconds=1.5)}, "deadline is to be whole seconds"),
        ({"group": 7}, "group is to be text, not 7"),
        ({"group": ""}, "group '' makes no name of a group"),
        ({"group": "Import-{a}"}, "group 'Import-{a}' makes no name of a group"),
        ({"group": "x" * 64}, "makes no name of a group"),
        *(
            ({"group": f"import-{field}"}, "in braces there can be the name of a parameter and nothing else")
            for field in ("{}", "{0}", "{a", "a}", "{{a}}", "{a!r}", "{a:>9}", "{a:{b}}", "{a.__class__}", "{a[0]}")
        ),
    ],
)  # fmt: skip
def test_a_bad_policy_is_refused_where_it_is_written(given: dict[str, Any], said: str) -> None:
    with pytest.raises((TypeError, ValueError)) as refused:
        handler("policy-bad", **given)
    assert str(refused.value).startswith("handler 'policy-bad': ")
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("deadline", "seconds"),
    [("90s", 90), ("2h", 7200), ("1d", 86_400), (7, 7), (timedelta(1), 86_400)],
)
def test_a_deadline_is_a_length_of_time(deadline: Any, seconds: int) -> None:
    handler("policy-deadline", deadline=deadline)(lambda job: job)
    assert policy_of("policy-deadline") == HandlerPolicy(active_deadline_seconds=seconds)


def test_a_policy_is_announced_with_the_handler() -> None:
    assert describe("policy-import", import_rows)["policy"] == {
        "group": "import-{customer}", "limit": 1, "maxAttempts": 2, "activeDeadlineSeconds": 5400,
    }  # fmt: skip
    handler("policy-none")(import_rows)
    assert "policy" not in describe("policy-none", import_rows)


def test_the_spec_goes_before_the_policy_and_the_policy_before_the_default() -> None:
    spec: dict[str, Any] = {"handler": "import", "parameters": {"customer": "acme"}}
    assert resolve(JobRequestSpec(**spec), None, "all", 7) == JobPolicy(group="all", limit=7, max_attempts=3)
    assert resolve(JobRequestSpec(**spec), POLICY, "all", 7) == JobPolicy(
        group="import-acme", limit=1, max_attempts=5, active_deadline_seconds=7200,
        from_handler=("group", "limit", "maxAttempts", "activeDeadlineSeconds"),
    )  # fmt: skip
    own = {"concurrency": {"limit": 0}, "retry": {"maxAttempts": 3}, "activeDeadlineSeconds": 9}
    assert resolve(JobRequestSpec(**spec, **own), POLICY, "all", 7) == JobPolicy(
        group="import-acme", limit=0, max_attempts=3, active_deadline_seconds=9, from_handler=("group",)
    )
    group = {"concurrency": {"group": "mine"}}
    assert resolve(JobRequestSpec(**{**spec, "parameters": {}}, **group), POLICY).group == "mine"
    assert resolve(JobRequestSpec(**spec), HandlerPolicy(limit=4), "all", 7).group == "all"


@pytest.mark.parametrize(("value", "group"), [("acme", "import-acme"), (7, "import-7"), ("{rows}", ""), (10**80, "")])
def test_a_value_is_taken_literally(value: Any, group: str) -> None:
    spec = JobRequestSpec(handler="import", parameters={"customer": value, "rows": 3})
    if group:
        assert resolve(spec, POLICY).group == group
    else:
        with pytest.raises(ValueError, match="that is no name of a group"):
            resolve(spec, POLICY)


def test_a_key_of_before_the_default_left_the_crd_is_of_the_same_work() -> None:
    written = content_of(JobRequestSpec.model_validate({"handler": "import", "retry": {"maxAttempts": 3}}))
    assert content_of(JobRequestSpec(handler="import")) == written
    assert content_of(JobRequestSpec.model_validate({"handler": "import", "retry": {"maxAttempts": 4}})) != written


def test_a_retry_leaves_to_the_policy_what_the_first_one_did() -> None:
    spec = {"handler": "import", "retry": {"backoff": {"factor": 3}}}
    assert repeated(JobRequestSpec.model_validate(spec).model_dump(by_alias=True))["retry"]["maxAttempts"] is None


def test_a_message_of_an_admission_that_was_given_back_is_not_run() -> None:
    policy = JobPolicy(group="default", limit=1, max_attempts=3, provisional=True)
    head = Head("1", "default", "n", "import", "q", "default", now(), State.QUEUED, policy=policy)
    message = JobMessage(
        job_id="1", namespace="default", name="n", handler="import", queue="q", group="default", limit=1,
        provisional=True, head=hint_of(head),
    )  # fmt: skip
    assert hinted(message) == head
    assert _next(head, message, "w")[1]["attempt"] == 1
    again = Head("1", "default", "n", "import", "q", "g", now(), State.QUEUED, policy=resolve(_spec("acme"), POLICY))
    with pytest.raises(NothingToRun):
        _next(again, message, "w")


def test_users_tests_have_the_policy() -> None:
    with joblease.testing.installation() as jobs:
        job = jobs.submit("policy-import", {"customer": "acme"})
        with pytest.raises(JobFailed):
            job.result()
        assert job.wait().attempt == 2
        assert [each.job_id for each in jobs.jobs(group="import-acme")] == [job.job_id]
        assert jobs.submit("policy-import", {"customer": "acme"}, max_attempts=1).wait().attempt == 1
        assert job.retry().wait().attempt == 2
        with pytest.raises(Refused, match="the parameter customer is missing"):
            jobs.submit("policy-import")


def _spec(customer: str) -> JobRequestSpec:
    return JobRequestSpec(handler="import", parameters={"customer": customer})
