"""What the API server makes of the manifests: only it knows if a rule compiles, holds, and lets the rest through."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from joblease.jobrequest import GROUP, KIND, PLURAL, VERSION, JobRequestSpec, JobRequestStatus
from joblease.states import REASONS, State
from kubernetes import client, config
from kubernetes.dynamic import DynamicClient
from pydantic import ValidationError

MANIFESTS = Path(__file__).parents[2] / "manifests"
SAMPLES = sorted((MANIFESTS / "samples").glob("*.yaml"))
SYSTEM = "joblease-system"
NEW_ONE = "; submit a new JobRequest instead"


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def shortened(value: object) -> str:
    """A test's id."""
    return ascii(value)[:60]


def eventually(condition: Callable[[], bool], what: str, timeout: float = 30) -> None:
    """The API server learns of policies and roles by watching, so they hold a moment after they were accepted."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(0.05)


class JobRequests:
    """The resource in a namespace of the test's own."""

    def __init__(self, api: client.ApiClient, namespace: str) -> None:
        self._api = client.CustomObjectsApi(api)
        self._where = (GROUP, VERSION, namespace, PLURAL)

    def create(self, spec: dict[str, Any]) -> str:
        body = {"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "metadata": {"generateName": "job-"}, "spec": spec}
        return str(self._api.create_namespaced_custom_object(*self._where, body)["metadata"]["name"])

    def get(self, name: str) -> dict[str, Any]:
        return dict(self._api.get_namespaced_custom_object(*self._where, name))

    def names(self, selector: str) -> list[str]:
        found = self._api.list_namespaced_custom_object(*self._where, field_selector=selector)
        return [item["metadata"]["name"] for item in found["items"]]

    def patch(self, name: str, patch: dict[str, Any]) -> None:
        """A merge patch: None removes a field."""
        self._api.patch_namespaced_custom_object(
            *self._where, name, patch, _content_type="application/merge-patch+json"
        )

    def patch_spec(self, name: str, **fields: Any) -> None:
        self.patch(name, {"spec": fields})

    def patch_status(self, name: str, **fields: Any) -> None:
        self._api.patch_namespaced_custom_object_status(
            *self._where, name, {"status": fields}, _content_type="application/merge-patch+json"
        )


def refusal(action: Callable[[], object]) -> str:
    """The API server's message; it must refuse the action as invalid (not as a conflict, or for lack of rights)."""
    with pytest.raises(client.ApiException) as caught:
        action()
    assert caught.value.status == 422, caught.value.body
    return str(json.loads(caught.value.body)["message"])


@pytest.fixture(scope="module")
def api(control_plane: Any) -> Iterator[client.ApiClient]:
    with config.new_client_from_config(str(control_plane)) as found:
        yield found


@pytest.fixture
def jobs(api: client.ApiClient, crd: None, kube_namespace: str) -> JobRequests:
    return JobRequests(api, kube_namespace)


@pytest.fixture(scope="module")
def policy(api: client.ApiClient, crd: None) -> None:
    """The admission policy in force, which it is always, except just after it was applied."""
    jobs, values = JobRequests(api, "default"), iter(range(10_000))
    name = jobs.create({"handler": "demo"})

    def refused() -> bool:
        try:
            jobs.patch_spec(name, parameters={"probe": next(values)})
        except client.ApiException as error:
            return "parameters is immutable" in error.body
        return False

    eventually(refused, "the admission policy is in force")


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_samples_are_accepted(jobs: JobRequests, path: Path) -> None:
    for document in documents(path):
        accepted = jobs.get(jobs.create(document["spec"]))["spec"]
        assert JobRequestSpec.model_validate(accepted) == JobRequestSpec.model_validate(document["spec"])


@pytest.mark.parametrize("given", [{}, {"retry": {}}, {"retry": {"backoff": {}}}, {"retry": None, "parameters": None}])
def test_defaults_are_filled_in(jobs: JobRequests, given: dict[str, Any]) -> None:
    assert jobs.get(jobs.create({"handler": "demo", **given}))["spec"] == {
        "handler": "demo",
        "parameters": {},
        "queue": "default",
        "priority": 0,
        "retry": {"backoff": {"initialSeconds": 10, "factor": 2, "maxSeconds": 600}},
        "suspend": False,
        "cancel": False,
    }


def test_parameters_are_kept_as_they_are(jobs: JobRequests) -> None:
    parameters: dict[str, Any] = {"n": None, "list": [1, 2.5, "é", {"deep": [[]]}], "empty": {}, "yes": True}
    assert jobs.get(jobs.create({"handler": "demo", "parameters": parameters}))["spec"]["parameters"] == parameters


REFUSED_AT_CREATION: list[tuple[dict[str, Any], str]] = [
    ({"handler": ""}, "spec.handler"),
    ({"handler": "Demo"}, "spec.handler"),
    ({"handler": "demo\n"}, "spec.handler"),
    ({"handler": "x" * 64}, "spec.handler"),
    ({"handler": None}, "spec.handler: Required value"),
    ({"parameters": [1]}, "spec.parameters"),
    ({"parameters": {str(n): n for n in range(1001)}}, "must have at most 1000 items"),
    ({"inputFilePath": ""}, "spec.inputFilePath"),
    ({"inputFilePath": "x" * 2049}, "spec.inputFilePath"),
    ({"description": "é" * 1025}, "spec.description"),
    ({"queue": "a/b"}, "spec.queue"),
    ({"queue": "a."}, "spec.queue"),
    ({"priority": -1}, "spec.priority"),
    ({"priority": 10}, "spec.priority"),
    ({"priority": 1.5}, "spec.priority"),
    ({"concurrency": {"group": "A"}}, "spec.concurrency.group"),
    ({"concurrency": {"limit": -1}}, "spec.concurrency.limit"),
    ({"concurrency": {"limit": 10_001}}, "spec.concurrency.limit"),
    ({"retry": {"maxAttempts": 0}}, "spec.retry.maxAttempts"),
    ({"retry": {"maxAttempts": 101}}, "spec.retry.maxAttempts"),
    ({"retry": {"backoff": {"factor": 0.9}}}, "spec.retry.backoff.factor"),
    ({"retry": {"backoff": {"factor": 10.1}}}, "spec.retry.backoff.factor"),
    ({"retry": {"backoff": {"initialSeconds": -1}}}, "spec.retry.backoff.initialSeconds"),
    ({"retry": {"backoff": {"maxSeconds": 86_401}}}, "spec.retry.backoff.maxSeconds"),
    ({"retry": {"backoff": {"initialSeconds": 601}}}, "maxSeconds must not be less than initialSeconds"),
    ({"retry": {"backoff": {"maxSeconds": 9}}}, "maxSeconds must not be less than initialSeconds"),
    ({"activeDeadlineSeconds": 0}, "spec.activeDeadlineSeconds"),
    ({"activeDeadlineSeconds": 31_536_001}, "spec.activeDeadlineSeconds"),
    ({"startAfter": "tomorrow"}, "spec.startAfter"),
    ({"startAfter": "2026-01-01T06:00:00"}, "spec.startAfter"),
    ({"startAfter": "2026-02-30T06:00:00Z"}, "spec.startAfter"),
    ({"startAfter": "0000-01-01T06:00:00Z"}, "spec.startAfter"),
    ({"startAfter": "2026-01-01T06:00:00+24:00"}, "spec.startAfter"),
    ({"ttlSecondsAfterFinished": -2}, "spec.ttlSecondsAfterFinished"),
    ({"ttlSecondsAfterFinished": 315_360_001}, "spec.ttlSecondsAfterFinished"),
    ({"suspend": "maybe"}, "spec.suspend"),
    ({"cancel": 2}, "spec.cancel"),
]


@pytest.mark.parametrize(("fields", "message"), REFUSED_AT_CREATION, ids=shortened)
def test_api_server_and_model_refuse_the_same(jobs: JobRequests, fields: dict[str, Any], message: str) -> None:
    spec = {"handler": "demo", **fields}
    assert message in refusal(lambda: jobs.create(spec))
    with pytest.raises(ValidationError):
        JobRequestSpec.model_validate(spec)


@pytest.mark.parametrize(
    "fields",
    [
        {"handler": "x" * 63},
        {"parameters": {str(n): n for n in range(1000)}},
        {"inputFilePath": "x" * 2048, "description": "é" * 1024},
        {"concurrency": {}},
        {"concurrency": {"limit": 0}},
        {"concurrency": {"group": "a.b_c"}},
        {"retry": {"maxAttempts": 1, "backoff": {"initialSeconds": 0, "factor": 1, "maxSeconds": 0}}},
        {"startAfter": "2026-01-01T06:00:00.123456789-12:30"},
        {"ttlSecondsAfterFinished": 0, "activeDeadlineSeconds": 1},
        {"ttlSecondsAfterFinished": -1},
        {"suspend": True, "cancel": True},
    ],
    ids=shortened,
)
def test_api_server_and_model_accept_the_same(jobs: JobRequests, fields: dict[str, Any]) -> None:
    spec = {"handler": "demo", **fields}
    jobs.create(spec)
    JobRequestSpec.model_validate(spec)


EARLY, LATE = "2030-01-01T00:00:00Z", "2031-01-01T00:00:00Z"


@pytest.mark.usefixtures("policy")
@pytest.mark.parametrize(
    ("field", "before", "after"),
    [
        ("handler", "demo", "other"),
        ("queue", "default", "other"),
        ("queue", "other", None),
        ("retry", {}, {"maxAttempts": 4}),
        ("retry", {}, {"maxAttempts": 3}),
        ("retry", {"backoff": {"factor": 3}}, {"backoff": {"factor": 2}}),
        ("retry", {"maxAttempts": 4}, None),
        ("inputFilePath", None, "a"),
        ("inputFilePath", "a", "b"),
        ("inputFilePath", "a", None),
        ("description", None, "a"),
        ("description", "a", "b"),
        ("description", "a", None),
        ("concurrency", None, {}),
        ("concurrency", None, {"limit": 1}),
        ("concurrency", {"limit": 1}, {"limit": 2}),
        ("concurrency", {"limit": 1}, {"group": "a"}),
        ("concurrency", {"group": "a", "limit": 1}, {"group": None}),
        ("concurrency", {"group": "a"}, None),
        ("activeDeadlineSeconds", None, 60),
        ("activeDeadlineSeconds", 60, 61),
        ("activeDeadlineSeconds", 60, None),
        ("startAfter", None, EARLY),
        ("startAfter", EARLY, LATE),
        ("startAfter", EARLY, None),
        ("parameters", None, {"a": 1}),
        ("parameters", {"a": 1}, {"a": 2}),
        ("parameters", {"a": 1}, {"a": "1"}),
        ("parameters", {"a": 1}, {"b": 1}),
        ("parameters", {"a": 1}, {"a": None}),
        ("parameters", {"a": 1}, {"a": None, "b": 1}),
        ("parameters", {"a": 1}, None),
        ("parameters", {"a": {"b": [1, {"c": 2}]}}, {"a": {"b": [1, {"d": 2}]}}),
    ],
)
def test_immutable_fields_stay(jobs: JobRequests, field: str, before: Any, after: Any) -> None:
    name = jobs.create({"handler": "demo", **({} if before is None else {field: before})})
    message = refusal(lambda: jobs.patch_spec(name, **{field: after}))
    assert f"{field} is immutable{NEW_ONE}" in message


def test_cancel_cannot_be_taken_back(jobs: JobRequests) -> None:
    name = jobs.create({"handler": "demo"})
    jobs.patch_spec(name, cancel=True)
    assert f"cancel cannot be taken back{NEW_ONE}" in refusal(lambda: jobs.patch_spec(name, cancel=False))
    assert f"cancel cannot be taken back{NEW_ONE}" in refusal(lambda: jobs.patch_spec(name, cancel=None))


@pytest.mark.usefixtures("policy")
def test_what_may_change_does(jobs: JobRequests) -> None:
    everything = {
        "handler": "demo",
        "parameters": {"a": {"b": [1, 2.5, None]}},
        "inputFilePath": "a",
        "description": "b",
        "concurrency": {"group": "c", "limit": 2},
        "activeDeadlineSeconds": 60,
        "startAfter": EARLY,
    }
    for spec in (everything, {"handler": "demo"}):
        name = jobs.create(spec)
        changes: list[dict[str, Any]] = [
            {"suspend": True},
            {"suspend": False},
            {"ttlSecondsAfterFinished": 60},
            {"ttlSecondsAfterFinished": None},
            {"priority": 9},
            {"priority": None},
            {"cancel": True},
        ]
        for change in changes:
            jobs.patch_spec(name, **change)
        jobs.patch(name, {"metadata": {"labels": {"a": "b"}, "finalizers": ["joblease.dev/test"]}})
        jobs.patch(name, {"metadata": {"finalizers": None}})
        jobs.patch_spec(name, **spec)  # kubectl apply of the same file
        assert jobs.get(name)["spec"]["cancel"] is True


@pytest.mark.usefixtures("policy")
def test_parameters_of_a_refused_size_do_not_lock_the_object(jobs: JobRequests) -> None:
    """The operator finds them too large; it must be able to say so, and to let the object go."""
    name = jobs.create({"handler": "demo", "parameters": {"many": [{str(n): "x" * 20} for n in range(25_000)]}})
    jobs.patch(name, {"metadata": {"finalizers": ["joblease.dev/test"]}})
    jobs.patch_spec(name, cancel=True)
    jobs.patch_status(name, message="too large")
    jobs.patch(name, {"metadata": {"finalizers": None}})


def condition(reason: State) -> dict[str, str]:
    status = "True" if reason is State.COMPLETED else "False" if reason.terminal else "Unknown"
    return {
        "type": "Succeeded",
        "status": status,
        "reason": reason,
        "message": "",
        "lastTransitionTime": datetime.now(UTC).isoformat(),
    }


@pytest.mark.parametrize("reason", REASONS)
def test_priority_is_fixed_while_the_job_runs_and_afterwards(jobs: JobRequests, reason: State) -> None:
    name = jobs.create({"handler": "demo", "priority": 1})
    other = {**condition(State.COMPLETED), "type": "SomethingElse"}
    jobs.patch_status(name, conditions=[other, condition(reason)])
    if reason is State.RUNNING or reason.terminal:
        message = refusal(lambda: jobs.patch_spec(name, priority=2))
        assert "spec.priority" in message
        assert "priority cannot be changed while the job is running or after it has ended" in message
        jobs.patch_spec(name, ttlSecondsAfterFinished=1)
    else:
        jobs.patch_spec(name, priority=2)
        assert jobs.get(name)["spec"]["priority"] == 2


def test_an_outcome_is_final(jobs: JobRequests) -> None:
    """A status that was sent before it, and arrives after it, is refused; what is said about it may still change."""
    name = jobs.create({"handler": "demo"})

    def conditions(reason: State, message: str = "") -> list[dict[str, str]]:
        finished = {**condition(reason), "type": "Finished", "status": reason.finished}
        return [{**each, "message": message} for each in (condition(reason), finished)]

    for reason in (State.RUNNING, State.RETRYING, State.FAILED):
        jobs.patch_status(name, conditions=conditions(reason))
    for reason in (State.RUNNING, State.COMPLETED):
        message = refusal(lambda reason=reason: jobs.patch_status(name, conditions=conditions(reason)))  # type: ignore[misc]
        assert "the job has its outcome, which is never changed" in message
    jobs.patch_status(name, conditions=conditions(State.FAILED, "attempt 1 failed"))


@pytest.mark.parametrize("result", ["text", 3, 2.5, True, [1, {"a": []}], {"a": {"b": 1}}], ids=repr)
def test_a_result_is_any_json(jobs: JobRequests, result: Any) -> None:
    name = jobs.create({"handler": "demo"})
    jobs.patch_status(name, result=result)
    assert jobs.get(name)["status"]["result"] == result


def test_a_whole_status_is_taken_and_read_back(jobs: JobRequests) -> None:
    name = jobs.create({"handler": "demo"})
    jobs.patch_status(
        name,
        jobId=jobs.get(name)["metadata"]["uid"],
        observedGeneration=1,
        attempt=2,
        worker="joblease-worker-6c5f-x2",
        startedAt="2026-01-01T06:00:00.123456Z",
        completedAt="2026-01-01T06:00:01Z",
        nextAttemptAt="2026-01-01T06:00:02Z",
        progress=100,
        policy={"group": "g", "limit": 0, "maxAttempts": 3, "activeDeadlineSeconds": 9, "fromHandler": ["group"]},
        message="é" * 1024,
        conditions=[{**condition(State.COMPLETED), "observedGeneration": 1}],
    )
    status = JobRequestStatus.model_validate(jobs.get(name)["status"])
    assert status.model_fields_set == set(JobRequestStatus.model_fields) - {"result"}
    assert status.conditions[0].reason == State.COMPLETED


@pytest.mark.parametrize(
    "status",
    [
        {"progress": 101},
        {"attempt": -1},
        {"startedAt": "now"},
        {"message": "x" * 1025},
        {"conditions": [{**condition(State.RUNNING), "status": "Maybe"}]},
        {"conditions": [{**condition(State.RUNNING), "reason": "two words"}]},
        {"conditions": [condition(State.RUNNING), condition(State.FAILED)]},
        {"conditions": [{"type": "Succeeded", "status": "True"}]},
    ],
    ids=shortened,
)
def test_a_wrong_status_is_refused(jobs: JobRequests, status: dict[str, Any]) -> None:
    name = jobs.create({"handler": "demo"})
    refusal(lambda: jobs.patch_status(name, **status))


def test_jobs_can_be_selected_by_handler_and_queue(jobs: JobRequests) -> None:
    name = jobs.create({"handler": "demo", "queue": "gpu"})
    jobs.create({"handler": "other"})
    assert jobs.names("spec.handler=demo") == jobs.names("spec.queue=gpu") == [name]


def test_kubectl_get_shows_where_the_job_is(control_plane: Any, jobs: JobRequests, kube_namespace: str) -> None:
    name = jobs.create({"handler": "demo"})
    jobs.patch_status(name, progress=40, attempt=2, worker="w", conditions=[condition(State.RUNNING)])
    with config.new_client_from_config(str(control_plane)) as tables:
        tables.set_default_header("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        table = client.CustomObjectsApi(tables).list_namespaced_custom_object(GROUP, VERSION, kube_namespace, PLURAL)
    columns = {column["name"]: column["priority"] for column in table["columnDefinitions"]}
    assert columns == {"Name": 0, "Handler": 0, "Status": 0, "Progress": 0, "Attempt": 0, "Worker": 1, "Age": 0}
    assert table["rows"][0]["cells"][:-1] == [name, "demo", "Running", 40, 2, "w"]


@pytest.fixture(scope="module")
def installed(api: client.ApiClient, crd: None) -> list[dict[str, Any]]:
    """`install.yaml`, applied; no controllers run here, so that no pods come of it."""
    dynamic, found = DynamicClient(api), documents(MANIFESTS / "install.yaml")
    for document in found:
        dynamic.resources.get(api_version=document["apiVersion"], kind=document["kind"]).server_side_apply(
            body=document, field_manager="test", force_conflicts=True, query_params=[("fieldValidation", "Strict")]
        )
    return found


def test_pods_keep_to_the_restricted_standard(api: client.ApiClient, installed: list[dict[str, Any]]) -> None:
    templates = [document["spec"]["template"] for document in installed if document["kind"] == "Deployment"]
    assert len(templates) == 3
    for template in templates:
        pod = {**template, "metadata": {**template["metadata"], "generateName": "pod-"}}
        client.CoreV1Api(api).create_namespaced_pod(SYSTEM, pod, dry_run="All")
    spec = {"serviceAccountName": "joblease-worker", "containers": [{"name": "a", "image": "a"}]}
    lax = {"metadata": {"generateName": "pod-"}, "spec": spec}
    with pytest.raises(client.ApiException, match="PodSecurity"):
        client.CoreV1Api(api).create_namespaced_pod(SYSTEM, lax, dry_run="All")


def test_services_find_their_pods_and_ports(installed: list[dict[str, Any]]) -> None:
    pods = [document["spec"]["template"] for document in installed if document["kind"] == "Deployment"]
    services = [document["spec"] for document in installed if document["kind"] == "Service"]
    assert len(services) == 4
    for service in services:
        (pod,) = (pod for pod in pods if service["selector"].items() <= pod["metadata"]["labels"].items())
        ports = {port["name"] for container in pod["spec"]["containers"] for port in container["ports"]}
        assert {port["targetPort"] for port in service["ports"]} <= ports


@pytest.mark.parametrize(
    ("verb", "resource", "allowed"),
    [
        ("list", "jobrequests.joblease.dev", True),
        ("watch", "jobrequests.joblease.dev", True),
        ("patch", "jobrequests.joblease.dev", False),
        ("delete", "jobrequests.joblease.dev", True),
        ("patch", "jobrequests.joblease.dev/status", True),
        ("watch", "customresourcedefinitions.apiextensions.k8s.io", False),
        ("watch", "namespaces", False),
        ("create", "events", False),
        ("create", "jobrequests.joblease.dev", False),
        ("deletecollection", "jobrequests.joblease.dev", False),
        ("patch", "customresourcedefinitions.apiextensions.k8s.io", False),
        ("get", "secrets", False),
        ("list", "pods", False),
        ("impersonate", "users", False),
    ],
)
@pytest.mark.usefixtures("installed")
def test_the_operator_may_do_its_work_and_no_more(
    api: client.ApiClient,
    verb: str,
    resource: str,
    allowed: bool,  # noqa: FBT001 - the table's third column
) -> None:
    def may(verb: str, resource: str) -> bool:
        resource, _, subresource = resource.partition("/")
        name, _, group = resource.partition(".")
        attributes = {
            "verb": verb,
            "resource": name,
            "group": group,
            "subresource": subresource,
            "namespace": "default",
        }
        user = f"system:serviceaccount:{SYSTEM}:joblease-operator"
        review = {"spec": {"user": user, "resourceAttributes": attributes}}
        return bool(client.AuthorizationV1Api(api).create_subject_access_review(review).status.allowed)

    eventually(lambda: may("list", "jobrequests.joblease.dev"), "the role is in force")
    assert may(verb, resource) is allowed


@pytest.mark.parametrize("program", ["worker"])
def test_workers_hold_no_kubernetes_credentials(installed: list[dict[str, Any]], program: str) -> None:
    (account,) = (
        document
        for document in installed
        if document["kind"] == "ServiceAccount" and document["metadata"]["name"] == f"joblease-{program}"
    )
    assert account["automountServiceAccountToken"] is False
    bound = [subject for document in installed for subject in document.get("subjects", ())]
    assert account["metadata"]["name"] not in {subject["name"] for subject in bound}
