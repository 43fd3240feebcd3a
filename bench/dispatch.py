"""How soon a handler starts after its `JobRequest` was created, beside a Kubernetes `Job`: `make kind bench-dispatch`.

Both are created in turn, on the cluster of `make kind` while nothing else runs on it, and both are timed by the same
clock: the client's just before the create request (a creationTimestamp has whole seconds only), and the node's, which
is the same machine's. A `JobRequest`'s handler has started, at the latest, when its first step is heard of: the demo
handler with no pause says it at once, and the trail has that moment in microseconds. A `Job`'s container prints the
time (`date`) as its first act, which its log has in nanoseconds; `startedAt` has whole seconds only. It is a small
program of an image that the nodes have already, so that neither pulling nor an interpreter's start counts against it.
"""

import statistics
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import uuid4

import httpx
from kubernetes import client, config
from report import Report, Row, Target, arguments, percentile, spread

CONTEXT = "kind-joblease"
DASHBOARD = "http://127.0.0.1:8088"
NAMESPACE = "default"
PAIRS = 10
IDLE_SECONDS = 2.0
"""Between two, so that each finds the system as idle as the first did: a finished job still costs some writes."""
PATIENCE_SECONDS = 60

Milestones = dict[str, float]
"""Milliseconds from the create request until something has happened."""


class Cluster:
    """The cluster of `make kind`."""

    def __init__(self) -> None:
        api = config.new_client_from_config(context=CONTEXT)
        self._requests = client.CustomObjectsApi(api)
        self._batch = client.BatchV1Api(api)
        self._core = client.CoreV1Api(api)
        worker = client.AppsV1Api(api).read_namespaced_deployment("joblease-worker-default", "joblease")
        self._image = worker.spec.template.spec.containers[0].image
        self.workers = worker.status.ready_replicas

    def job_request(self) -> Milestones:
        """One `JobRequest` of the default group, to its end."""
        body = {
            "apiVersion": "joblease.dev/v1alpha1",
            "kind": "JobRequest",
            "metadata": {"name": f"bench-{uuid4().hex[:8]}"},
            "spec": {"handler": "demo", "parameters": {"steps": 1, "seconds": 0}, "ttlSecondsAfterFinished": 60},
        }
        began = time.time()
        made = self._requests.create_namespaced_custom_object(
            "joblease.dev", "v1alpha1", NAMESPACE, "jobrequests", body
        )
        created = time.time()
        events = until(lambda: finished(made["metadata"]["uid"]), "a JobRequest completes")
        at = {event["status"]: datetime.fromisoformat(event["timestamp"]).timestamp() for event in events}
        return {
            "created": (created - began) * 1000,
            "noticed": (at["Submitted"] - began) * 1000,
            "claimed": (at["Started"] - began) * 1000,
            "started": (at["Step 1"] - began) * 1000,
        }

    def job(self) -> Milestones:
        """One Kubernetes `Job`, to its end."""
        name = f"bench-{uuid4().hex[:8]}"
        container = client.V1Container(
            name="date", image=self._image, command=["date", "+%s.%N"], image_pull_policy="IfNotPresent"
        )
        pod = client.V1PodSpec(containers=[container], restart_policy="Never", enable_service_links=False)
        spec = client.V1JobSpec(template=client.V1PodTemplateSpec(spec=pod), backoff_limit=0)
        began = time.time()
        self._batch.create_namespaced_job(NAMESPACE, client.V1Job(metadata=client.V1ObjectMeta(name=name), spec=spec))
        created = time.time()
        until(lambda: self._batch.read_namespaced_job_status(name, NAMESPACE).status.succeeded, "a Job completes")
        pods = self._core.list_namespaced_pod(NAMESPACE, label_selector=f"batch.kubernetes.io/job-name={name}").items
        said = float(self._core.read_namespaced_pod_log(pods[0].metadata.name, NAMESPACE))
        self._batch.delete_namespaced_job(name, NAMESPACE, propagation_policy="Foreground")
        until(lambda: not self._exists(name), "a Job is deleted")
        return {"created": (created - began) * 1000, "started": (said - began) * 1000}

    def _exists(self, name: str) -> bool:
        return any(job.metadata.name == name for job in self._batch.list_namespaced_job(NAMESPACE).items)


def until(look: Any, what: str) -> Any:
    """Look now and then until there is something to see."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := look()):
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {PATIENCE_SECONDS} s: {what}")
        time.sleep(0.5)  # rarely: looking is work for the same machine
    return found


def finished(job_id: str) -> list[dict[str, Any]] | None:
    """The job's history, when it has completed."""
    answer = httpx.get(f"{DASHBOARD}/api/jobs/{job_id}", timeout=10)
    events: list[dict[str, Any]] = answer.json()["events"] if answer.status_code == 200 else []
    return events if any(event["status"] == "Completed" for event in events) else None


def row(what: str, rounds: Sequence[Sequence[Milestones]], step: str) -> Row:
    """A line of the table: the figures of one milestone over the rounds."""
    values = [[each[step] for each in taken] for taken in rounds]
    return {
        "what": what,
        "until": step,
        "p50 ms": spread([statistics.median(each) for each in values]),
        "p90 ms": spread([percentile(each, 0.9) for each in values]),
    }


def main() -> None:
    """Entry point."""
    options = arguments(__doc__, rounds=3)
    cluster = Cluster()
    for measure in (cluster.job_request, cluster.job):  # not counted: connections, the group's first job
        measure()
    ours: list[list[Milestones]] = []
    theirs: list[list[Milestones]] = []
    for number in range(1, options.rounds + 1):
        print(f"round {number} of {options.rounds}", flush=True)
        ours.append([])
        theirs.append([])
        for _ in range(PAIRS):
            time.sleep(IDLE_SECONDS)
            ours[-1].append(cluster.job_request())
            time.sleep(IDLE_SECONDS)
            theirs[-1].append(cluster.job())
    p50 = statistics.median(each["started"] for taken in ours for each in taken)
    sooner = statistics.median(each["started"] for taken in theirs for each in taken) / p50
    Report(
        name="dispatch",
        question="JobRequest created to its handler started, and Kubernetes Job created to its container started.",
        rounds=options.rounds,
        rows=[
            *[row("JobRequest", ours, step) for step in ("created", "noticed", "claimed", "started")],
            *[row("Kubernetes Job", theirs, step) for step in ("created", "started")],
        ],
        targets=[
            Target("p50 of a JobRequest", "at most 150 ms", f"{p50:.0f} ms", p50 <= 150),
            Target("sooner than a Kubernetes Job, by p50", "at least 10 times", f"{sooner:.1f} times", sooner >= 10),
        ],
        notes=[
            f"Idle but for {cluster.workers} waiting workers; {PAIRS} of each a round, in turn, on one kind cluster.",
            "noticed: the operator writes its first row; claimed: a worker holds it; started: the handler said so.",
            "Most of it is five storage requests, one after the other: blob, first rows, slot, job lease, claim.",
        ],
    ).publish(options.write)


if __name__ == "__main__":
    main()
