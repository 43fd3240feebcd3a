"""What an installation has left behind, as a file, and put into another one: rows, blobs, resources and messages.

A resource gets another uid there, and a row another ETag; they are replaced wherever they are written. The file names
no place of the machine on which it was recorded.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

from joblease.rows import HEAD
from joblease.storage import TRAIL_TABLE
from joblease.topology import JOBS, jobs_queue
from joblease_local.settings import ROOT

from support.cluster import Cluster
from support.jobs import Jobs

FOLDER = "<folder>"
"""In the file, for the folder in which handlers and tests meet."""


async def record(cluster: Cluster, jobs: Jobs, uids: dict[str, str], folder: Path, messages: int) -> str:
    """What is there, as soon as so many messages wait. They are used up."""
    bodies: list[str] = []

    async def take(channel: Any) -> None:
        queue = await channel.get_queue(jobs_queue(cluster.namespace))
        while message := await queue.get(no_ack=True, fail=False):
            bodies.append(message.body.decode())

    async with asyncio.timeout(30):
        while len(bodies) < messages:
            await jobs.broker.ask(take)
            await asyncio.sleep(0.1)
    table, container = jobs.storage.table(TRAIL_TABLE), jobs.storage.locks()
    rows = [{**row, "etag": row.metadata["etag"]} async for row in table.list_entities()]
    found = {
        "namespace": cluster.namespace,
        "uids": uids,
        "requests": [
            {"name": each["metadata"]["name"], "spec": each["spec"], "status": each["status"]} for each in cluster.all()
        ],
        "rows": [row for row in rows if row["PartitionKey"] in uids.values()],
        "blobs": [
            [blob.name, blob.metadata or {}] async for blob in container.list_blobs(include=["metadata"])
        ],
        "messages": bodies,
    }  # fmt: skip
    text = json.dumps(found, indent=1, sort_keys=True) + "\n"
    for place, name in ((folder, FOLDER), (f"{folder.parent}/", ""), (f"{ROOT}/", "")):
        text = text.replace(str(place), name)
    return text


async def play(recording: str, cluster: Cluster, jobs: Jobs, folder: Path) -> dict[str, str]:
    """Put it all into this installation; the jobs' ids by their names."""
    before = json.loads(recording)
    text = recording.replace(before["namespace"], cluster.namespace).replace(FOLDER, str(folder))
    for request in json.loads(text)["requests"]:
        created = cluster.create_object({"name": request["name"]}, request["spec"])
        text = text.replace(before["uids"][request["name"]], created["metadata"]["uid"])
    found = json.loads(text)
    for request in found["requests"]:
        cluster.change_status(request["name"], request["status"])
    etags: dict[str, str] = {}
    for row in found["rows"]:
        etag = row.pop("etag")
        written = await jobs.storage.table(TRAIL_TABLE).create_entity(row)
        if row["RowKey"] == HEAD:
            etags[etag] = written["etag"]
    for name, metadata in found["blobs"]:
        await jobs.blobs.create(name, metadata)
    for number, body in enumerate(found["messages"]):
        message = json.loads(body)
        if message.get("head"):
            message["head"]["etag"] = etags.get(message["head"]["etag"], "out of date")
        await jobs.broker.publish(JOBS, cluster.namespace, json.dumps(message).encode(), message_id=str(number))
    uids: dict[str, str] = found["uids"]
    return uids
