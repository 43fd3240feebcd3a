"""Submits a job of one second, outside every concurrency group, and waits for its outcome."""

import os
import sys
import time

from kubernetes import client, config

config.load_incluster_config()
kind = ("joblease.dev", "v1alpha1", os.environ["NAMESPACE"], "jobrequests")
api = client.CustomObjectsApi()
job = api.create_namespaced_custom_object(
    *kind,
    {
        "apiVersion": "joblease.dev/v1alpha1",
        "kind": "JobRequest",
        "metadata": {"generateName": "helm-test-"},
        "spec": {
            "handler": "demo",
            "queue": os.environ["QUEUE"],
            "parameters": {"steps": 2, "seconds": 0.5},
            "concurrency": {"group": "helm-test", "limit": 0},
            "ttlSecondsAfterFinished": 600,
        },
    },
    _request_timeout=15,
)
name, deadline, status = job["metadata"]["name"], time.monotonic() + float(os.environ["TIMEOUT_SECONDS"]), {}
while time.monotonic() < deadline:
    status = api.get_namespaced_custom_object(*kind, name, _request_timeout=15).get("status", {})
    succeeded = next((each for each in status.get("conditions", []) if each["type"] == "Succeeded"), {})
    if succeeded.get("status", "Unknown") != "Unknown":
        print(f"{name}: {succeeded['reason']}: {succeeded.get('message', '')}")
        sys.exit(succeeded["status"] != "True")
    time.sleep(1)
sys.exit(f"{name} has no outcome after {os.environ['TIMEOUT_SECONDS']} s; its status is {status or 'empty: does the operator run?'}")
