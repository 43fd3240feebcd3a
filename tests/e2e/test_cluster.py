"""JobLease on a real cluster: what happens to jobs while everything around them is deleted, drained and upgraded."""

import json
import re
import shutil
import subprocess
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from e2e.cluster import (
    CONTEXT,
    LEASE_SECONDS,
    NAMESPACE,
    ask,
    chart_values,
    completed,
    helm,
    history,
    job,
    kubectl,
    rights,
    rolled_out,
    run,
    running,
    submit,
    system,
    until,
    words,
)

pytestmark = pytest.mark.timeout(600)
LONG = {"steps": 20, "seconds": 1}
RESYNC_SECONDS = 60
"""How often the operator looks into the trail for what nobody has told it."""


def test_a_job_applied_with_kubectl_completes() -> None:
    kubectl("delete", "jr", "demo", "--ignore-not-found")
    kubectl("apply", "--filename", "manifests/samples/demo.yaml")
    kubectl("wait", "--for=condition=Succeeded", "jr/demo", "--timeout=180s")


def test_ten_workers_run_one_job_at_a_time() -> None:
    runs = in_turn([submit(parameters={"steps": 1, "seconds": 0.3}) for _ in range(15)])
    assert len({worker for _, _, worker in runs}) > 1


def in_turn(names: list[str]) -> list[tuple[datetime, datetime, str]]:
    """Start, end and worker of each job, the earliest first: each ran once, and one after the other."""
    runs = []
    for name in names:
        events = completed(name)
        at = {event["status"]: datetime.fromisoformat(event["timestamp"]) for event in events}
        assert words(events).count("Started") == 1
        runs.append((at["Started"], at["Completed"], events[-1]["worker"]))
    runs.sort()
    for before, after in pairwise(runs):
        assert before[1] <= after[0], "two jobs ran at once"
    return runs


def test_a_worker_pod_deleted_in_mid_job_hands_it_over() -> None:
    name = submit(parameters=LONG)
    system("delete", "pod", running(name), "--wait=false")
    events = completed(name)
    started = [event for event in events if event["status"] == "Started"]
    assert "Interrupted" in words(events)
    assert [event["attempt"] for event in started] == [1, 1]
    assert started[0]["worker"] != started[1]["worker"]


def test_a_worker_pod_deleted_by_force_costs_one_attempt() -> None:
    name = submit(parameters=LONG)
    system("delete", "pod", running(name), "--force", "--grace-period=0")
    events = completed(name)
    assert words(events).count("Completed") == 1
    assert [event["epoch"] for event in events if event["status"] == "Started"] == [1, 2]


def kill_container(pod: str) -> datetime:
    """Kill the first process of a worker's container, as the kernel does that is out of memory; when that was."""
    node = system("get", "pod", pod, "--output", "jsonpath={.spec.nodeName}")
    its = run("docker", "exec", node, "sh", "-c", f"grep -lzx JOBLEASE_WORKER_NAME={pod} /proc/[0-9]*/environ 2>&-; :")
    first = min(int(each.split("/")[2]) for each in its.split())
    killed = datetime.now(UTC)
    run("docker", "exec", node, "kill", "-9", str(first))
    return killed


def test_a_container_that_is_killed_costs_no_lease() -> None:
    """The next container in the pod closes its predecessor's session."""
    waited = []
    for _ in range(3):
        name = submit(parameters={"steps": 12, "seconds": 1})
        killed = kill_container(running(name))
        events = completed(name)
        started = [datetime.fromisoformat(event["timestamp"]) for event in events if event["status"] == "Started"]
        assert [event["epoch"] for event in events if event["status"] == "Started"] == [1, 2]
        waited.append((started[1] - killed).total_seconds())
    print(f"from the kill to the next start: {waited} s")
    assert max(waited) < LEASE_SECONDS / 2


def test_a_drained_node_hands_its_jobs_over() -> None:
    name = submit(parameters=LONG)
    node = system("get", "pod", running(name), "--output", "jsonpath={.spec.nodeName}")
    try:
        kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=240s")
        left = system("get", "pod", "--selector", "app.kubernetes.io/component=worker", "--output", "json")
        assert not [pod for pod in json.loads(left)["items"] if pod["spec"]["nodeName"] == node]
    finally:
        kubectl("uncordon", node)
    assert words(completed(name)).count("Completed") == 1


def leader() -> str:
    """The pod of the operator that leads."""
    return system("get", "lease", "joblease-operator", "--output", "jsonpath={.spec.holderIdentity}").split("_")[0]


def test_the_pod_of_the_operator_that_leads_is_deleted_while_jobs_run_and_wait() -> None:
    names = [submit(parameters={"steps": 5, "seconds": 1}) for _ in range(3)]
    running(names[0])
    before = leader()
    deleted = datetime.now(UTC)
    system("delete", "pod", before, "--wait=false")
    anew = submit(parameters={"steps": 1, "seconds": 0.1}, concurrency={"group": "wide", "limit": 0})
    admitted = next(each for each in completed(anew) if each["status"] == "Queued")["timestamp"]
    print(f"admitted {datetime.fromisoformat(admitted) - deleted} after the deletion began")
    assert leader() != before
    for one, next_one in pairwise(in_turn(names)):
        pause = next_one[0] - one[1]
        assert pause.total_seconds() < RESYNC_SECONDS / 2, "what the operators heard was lost between them"


def test_the_operator_stands_by_on_another_node_and_a_drain_leaves_one() -> None:
    pods = json.loads(system("get", "pod", "--selector", "app.kubernetes.io/component=operator", "--output", "json"))
    assert len({pod["spec"]["nodeName"] for pod in pods["items"]}) == 2
    budget = system("get", "pdb", "joblease-operator", "--output", "jsonpath={.status.disruptionsAllowed}")
    assert budget == "1"


def test_rabbitmq_restarts_while_a_job_runs() -> None:
    names = [submit(parameters=LONG), submit(parameters={"steps": 1, "seconds": 0.1})]
    running(names[0])
    system("rollout", "restart", "statefulset/joblease-rabbitmq")
    for name in names:
        assert words(completed(name)).count("Completed") == 1


def test_a_rolling_upgrade_with_the_previous_releases_values_while_a_job_runs(tmp_path: Path) -> None:
    """There is no release before 0.1.0: its part is played by this chart with lower versions and an older CRD."""
    previous, now = shutil.copytree("charts/joblease", tmp_path / "joblease"), Path("charts/joblease")
    replace(previous / "Chart.yaml", "ersion: 0.1.0", "ersion: 0.0.9")
    replace(
        previous / "files" / "crd.yaml", "        - {name: Attempt, type: integer, jsonPath: .status.attempt}\n", ""
    )
    values = ["--values", "tests/e2e/values-0.1.0.yaml", "--set", f"image.tag={chart_values()['image']['tag']}"]
    helm("upgrade", "joblease", str(previous), "--reset-values", *values)
    rolled_out()
    assert "Attempt" not in columns()

    name = submit(parameters={"steps": 120, "seconds": 1})
    before = running(name)
    helm("upgrade", "joblease", str(now), "--reset-values", *values)
    rolled_out()
    assert "Attempt" in columns()
    until(lambda: before not in " ".join(workers()), "the worker that ran the job has gone")
    events = completed(name)
    started = [event for event in events if event["status"] == "Started"]
    assert words(events).count("Completed") == 1
    assert len({event["worker"] for event in started}) > 1
    assert {event["attempt"] for event in started} == {1}


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def columns() -> str:
    names = "jsonpath={.spec.versions[0].additionalPrinterColumns[*].name}"
    return kubectl("get", "crd", "jobrequests.joblease.dev", "--output", names)


def test_no_workers_for_a_while_with_work_waiting() -> None:
    system("scale", "deployment/joblease-worker-default", "--replicas=0")
    try:
        until(lambda: not workers(), "all workers have gone")
        names = [submit(parameters={"steps": 1, "seconds": 0.1}) for _ in range(3)]
        until(lambda: "Queued" in kubectl("get", "jr", names[0], "--output", "json"), "the first one is queued")
    finally:
        system("scale", "deployment/joblease-worker-default", "--replicas=10")
    for name in names:
        assert words(completed(name)).count("Started") == 1


def workers() -> list[str]:
    return system("get", "pod", "--selector", "app.kubernetes.io/component=worker", "--output", "name").split()


def test_helm_says_what_to_do_next() -> None:
    notes = helm("get", "notes", "joblease")
    assert "helm test joblease --namespace joblease" in notes
    assert "kubectl port-forward --namespace joblease service/joblease-dashboard 8080:80" in notes


def test_helm_test_passes() -> None:
    assert "Phase:          Succeeded" in helm("test", "joblease")


def test_every_pod_exports_metrics() -> None:
    pods = json.loads(system("get", "pod", "--output", "json"))["items"]
    seen = []
    for pod in pods:
        component = pod["metadata"]["labels"].get("app.kubernetes.io/component")
        if component not in ("operator", "worker", "dashboard"):
            continue
        path = f"/api/v1/namespaces/joblease/pods/{pod['metadata']['name']}:9090/proxy/metrics"
        assert f'joblease_build_info{{program="{component}"' in kubectl("get", "--raw", path)
        seen.append(component)
    assert sorted(seen) == sorted(["operator", "operator", "dashboard", *["worker"] * 10])


def test_accounts_may_do_what_they_need_and_no_more() -> None:
    assert rights("joblease-operator") == {
        "jobrequests.joblease.dev": {"get", "list", "watch", "delete"},
        "jobrequests.joblease.dev/status": {"patch"},
        "leases.coordination.k8s.io": {"create"},  # the rest by name
    }
    assert rights("joblease-worker") == {}
    assert rights("joblease-dashboard") == {"jobrequests.joblease.dev": {"get", "create", "patch"}}


def test_no_program_can_write_into_its_image() -> None:
    for program in ("operator", "worker-default", "dashboard"):
        done = in_pod(f"deployment/joblease-{program}", "touch /tmp/a && touch /a")
        assert "touch: cannot touch '/a': Read-only file system" in done.stderr


def in_pod(pod: str, script: str) -> subprocess.CompletedProcess[str]:
    command = ["kubectl", "--context", CONTEXT, "--namespace", NAMESPACE, "exec", pod, "--", "sh", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_network_lets_workers_go_where_they_need_and_no_further() -> None:
    if "kindnet" not in kubectl("get", "daemonset", "--all-namespaces", "--output", "name"):
        pytest.skip("this cluster's network is not kind's own: it may not enforce NetworkPolicies")
    reach = "python -c 'import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)' "
    assert in_pod("deployment/joblease-worker-default", reach + "joblease-rabbitmq 5672").returncode == 0
    stopped = in_pod("deployment/joblease-worker-default", reach + "joblease-dashboard 80").stderr
    assert "TimeoutError" in stopped or "ConnectionRefusedError" in stopped  # dropped or rejected


def test_only_the_development_servers_are_not_restricted() -> None:
    change = ["kubectl", "--context", "kind-joblease", "label", "namespace", "joblease", "--overwrite"]
    label = "pod-security.kubernetes.io/enforce=restricted"
    answer = subprocess.run([*change, label, "--dry-run=server"], capture_output=True, text=True, check=True).stderr
    violators = set(re.findall(r"Warning: (joblease-[a-z0-9-]+)", answer))
    assert violators <= {"joblease-rabbitmq-0", "joblease-azurite-0"}, answer


def test_the_dashboard_is_reached_through_its_service() -> None:
    page = ask("/")
    assert page.status_code == 200
    assert "JobLease" in page.text
    assert ask("/api/jobs").status_code == 200


def test_uninstalling_leaves_requests_and_trail() -> None:
    """Last: takes the release away, and installs it again over what it has left."""
    name = submit(parameters={"steps": 1, "seconds": 0.1})
    before = completed(name)
    helm("uninstall", "joblease", "--wait")
    job_id = job(name)["metadata"]["uid"]
    run("make", "kind", timeout=500)
    assert history(job_id) == before
    completed(submit(parameters={"steps": 1, "seconds": 0.1}))
