"""The examples of `docs/client.md` run as they are, with `joblease.testing` behind their clients."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import joblease.client
import joblease.testing
import pytest
from joblease.client.submission import _KNOWN
from joblease.handlers import _registry

TEXT = (Path(__file__).parents[2] / "docs" / "client.md").read_text()


def example(heading: str, number: int = 0) -> str:
    part = TEXT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    found: list[str] = re.findall(r"```python\n(.*?)```", part, re.DOTALL)
    return found[number]


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Iterator[joblease.testing.Installation]:
    monkeypatch.delitem(_registry, "resize-images", raising=False)  # another example's
    shop = ModuleType("shop_jobs")
    monkeypatch.setitem(sys.modules, "shop_jobs", shop)
    exec(compile(example("A script"), "shop_jobs.py", "exec"), shop.__dict__)
    with joblease.testing.installation(namespace="shop") as installation:
        monkeypatch.setattr(joblease.client, "Client", lambda **_: installation)
        monkeypatch.setattr(joblease.client, "AsyncClient", installation.async_client, raising=False)
        yield installation
    del _registry["resize-images"]


def run(code: str, name: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": name}
    exec(compile(code, f"{name}.py", "exec"), names)
    return names


def test_the_script(jobs: joblease.testing.Installation, capsys: pytest.CaptureFixture[str]) -> None:
    run(example("A script", 1), "script")
    told = capsys.readouterr().out.splitlines()
    assert (told[0], told[-1]) == ("Submitted None ", "{'resized': 2}")
    assert "Step 1 50 resized a.png to 800" in told


def test_the_options(jobs: joblease.testing.Installation, capsys: pytest.CaptureFixture[str]) -> None:
    run(example("A script", 2), "options")
    assert capsys.readouterr().out == ""
    told = TEXT.split("\nOptions: ")[1].split("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", told)) == {*_KNOWN, "timedelta"}


def test_the_selection(jobs: joblease.testing.Installation, capsys: pytest.CaptureFixture[str]) -> None:
    jobs.submit("resize-images", {"paths": 3}, unchecked=True)
    run(example("A script", 3), "selection")
    assert capsys.readouterr().out == "1 1 [] 0\n"


def test_the_test(jobs: joblease.testing.Installation) -> None:
    run(example("Your own tests"), "test_shop")


async def test_fastapi(jobs: joblease.testing.Installation) -> None:
    app = run(example("FastAPI"), "shop_api")["app"]
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.test") as http,
    ):
        answers = [await http.post("/orders/17/thumbnails", json=["a.png"]) for _ in range(2)]
        assert [each.status_code for each in answers] == [202, 202]
        assert answers[0].json() == answers[1].json()
        assert (await http.post("/orders/17/thumbnails", json=["b.png"])).status_code == 409
        state = await http.get(f"/thumbnails/{answers[0].json()['job']}")
        assert state.json() == {"state": "Completed"}
        assert (await http.get("/thumbnails/nobody")).status_code == 404


def test_django(jobs: joblease.testing.Installation) -> None:
    import django
    from django.conf import settings
    from django.test import RequestFactory

    if not settings.configured:
        database = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
        settings.configure(DATABASES={"default": database}, ALLOWED_HOSTS=["testserver"])
        django.setup()
    from django.db import connection

    view = run(example("Django"), "shop_views")["order_placed"]
    for _ in range(2):
        assert view(RequestFactory().post("/orders/17?path=a.png"), 17).status_code == 202
    connection.close()
    (job,) = jobs.jobs()
    assert (job.handler, job.result()) == ("resize-images", {"resized": 1})
