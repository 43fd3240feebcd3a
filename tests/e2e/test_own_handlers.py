"""Handlers of one's own, in both ways that docs/install.md shows: in an image built on ours, and in a volume."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from e2e.cluster import block, chart_values, completed, helm, job, rolled_out, run, submit, system, until

pytestmark = pytest.mark.timeout(600)
ORPHAN = """
import subprocess
from joblease import JobContext, handler

@handler("orphan")
def orphan(job: JobContext) -> None:
    subprocess.run(["sh", "-c", "sleep 0.1 & true"], check=True)
"""


def build_image(folder: Path, worker: str) -> None:
    dockerfile = block("dockerfile", "FROM ")
    (folder / "Dockerfile").write_text(re.sub("^FROM .*", f"FROM {worker}", dockerfile))
    (folder / "pyproject.toml").write_text(block("toml", "joblease.handlers"))
    (folder / "my_package").mkdir()
    (folder / "my_package" / "__init__.py").touch()
    (folder / "my_package" / "handlers.py").write_text(block("python", "@handler", "README.md"))
    run("docker", "build", "--quiet", "--tag", "my-handlers:7", str(folder), timeout=300)
    run("kind", "load", "docker-image", "--name", "joblease", "my-handlers:7")


@pytest.fixture(scope="module", autouse=True)
def pools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The two pools of the guide, beside the one that is there."""
    rolled_out()
    before = chart_values()
    worker = f"joblease-worker:{before['image']['tag']}"
    build_image(tmp_path_factory.mktemp("image"), worker)
    volume = tmp_path_factory.mktemp("volume")
    (volume / "greeting.py").write_text(block("python", '"greet"'))
    (volume / "orphan.py").write_text(ORPHAN)
    (volume / "commands.toml").write_text(block("toml", "[count-words]", "docs/handlers.md").partition("\n\n")[0])
    (volume / "count-words.sh").write_text(block("sh", "joblease result", "docs/handlers.md"))
    system("delete", "configmap", "handlers", "--ignore-not-found")
    system("create", "configmap", "handlers", f"--from-file={volume}")
    own: list[dict[str, Any]] = yaml.safe_load(block("yaml", "/handlers"))["workers"]
    assert [pool["name"] for pool in own] == ["default", "images", "scripts"]
    own[2]["handlers"].append("orphan")
    own[2]["commands"] = "/handlers/commands.toml"
    values = {**before, "workers": [*before["workers"], *own[1:]]}
    upgrade(values)
    for pool in own[1:]:
        system("rollout", "status", "--timeout", "240s", f"deployment/joblease-worker-{pool['name']}")
    yield
    upgrade(before)
    rolled_out()


def upgrade(values: dict[str, Any]) -> None:
    helm("upgrade", "joblease", "charts/joblease", "--reset-values", "--values", "-", text=json.dumps(values))


def result(name: str) -> Any:
    return job(name)["status"]["result"]


def test_an_image_built_on_the_workers_brings_handlers() -> None:
    name = submit(handler="resize-images", queue="images", parameters={"paths": ["a.png", "b.png"]})
    assert "joblease-worker-images-" in completed(name)[-1]["worker"]
    assert result(name) == {"resized": 2}


def test_a_volume_brings_handlers() -> None:
    name = submit(handler="greet", queue="scripts", parameters={"name": "cluster"})
    assert "joblease-worker-scripts-" in completed(name)[-1]["worker"]
    assert result(name) == "Hello, cluster"


def test_a_volume_brings_commands() -> None:
    name = submit(handler="count-words", queue="scripts", parameters={"text": "any program is a handler"})
    events = completed(name)
    assert [event["message"] for event in events if event["status"].startswith("Step ")] == ["counting", "counted"]
    assert result(name) == {"words": 5}


def test_what_a_handler_leaves_behind_does_not_stay_a_zombie() -> None:
    """What has lost its parent falls to process 1, which must not be the worker: it buries its own children alone."""
    for _ in range(3):
        completed(submit(handler="orphan", queue="scripts"))
    states = ["exec", "deployment/joblease-worker-scripts", "--", "sh", "-c", "grep -h ^State: /proc/[0-9]*/status"]
    until(lambda: "zombie" not in system(*states), "no zombies", 15)
