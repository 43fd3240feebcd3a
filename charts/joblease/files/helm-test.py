"""Submits a job of one second, outside every concurrency group, and waits for its outcome."""

import asyncio
import os
import sys

from kubernetes.aio import client, config

TIMEOUT = float(os.environ["TIMEOUT_SECONDS"])
JOB = {
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
}


async def main() -> None:
    config.load_incluster_config()
    kind = ("joblease.dev", "v1alpha1", os.environ["NAMESPACE"], "jobrequests")
    status = {}
    async with client.ApiClient() as connection:
        api = client.CustomObjectsApi(connection)
        job = await api.create_namespaced_custom_object(*kind, JOB, _request_timeout=15)
        name = job["metadata"]["name"]
        try:
            async with asyncio.timeout(TIMEOUT):
                while True:
                    found = await api.get_namespaced_custom_object(*kind, name, _request_timeout=15)
                    status = found.get("status", {})
                    conditions = status.get("conditions", [])
                    succeeded = next((each for each in conditions if each["type"] == "Succeeded"), {})
                    if succeeded.get("status", "Unknown") != "Unknown":
                        print(f"{name}: {succeeded['reason']}: {succeeded.get('message', '')}")
                        sys.exit(succeeded["status"] != "True")
                    await asyncio.sleep(1)
        except TimeoutError:
            known = status or "empty: does the operator run?"
            sys.exit(f"{name} has no outcome after {TIMEOUT:.0f} s; its status is {known}")


asyncio.run(main())
