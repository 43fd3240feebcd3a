import datetime as dt
import functools
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import joblease
import pytest
from joblease import JobCancelled, JobContext, handler
from joblease.handlers import ENDINGS, UnknownHandler, find, load_handlers, name_of
from joblease.jobrequest import JobRequestSpec


def test_the_built_in_handler_is_found_by_its_entry_point() -> None:
    assert "demo" in load_handlers(())


def test_handlers_are_found_by_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some_handlers.py").write_text(
        "from joblease import handler\n@handler('found-by-module')\ndef run(job):\n    return 1\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("JOBLEASE_HANDLERS", " some_handlers, ")
    assert "found-by-module" in load_handlers()
    assert find("found-by-module")(JobContext("1")) == 1


def test_a_module_that_cannot_be_imported_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBLEASE_HANDLERS", "there_is_no_such_module")
    with pytest.raises(ModuleNotFoundError, match="there_is_no_such_module"):
        load_handlers()


def test_a_function_tells_its_one_name() -> None:
    def run(job: JobContext) -> None: ...

    with pytest.raises(TypeError, match=r"run.* is no handler: register it"):
        name_of(run)
    assert name_of(handler("named-once")(run)) == "named-once"
    handler("named-twice")(run)
    with pytest.raises(ValueError, match="registered as named-once, named-twice"):
        name_of(run)


def test_an_unknown_handler_is_named_with_those_that_are_known() -> None:
    load_handlers(())
    with pytest.raises(UnknownHandler, match=r"no handler 'nobody'; known here: .*demo"):
        find("nobody")


def test_each_way_to_end_a_job_is_offered_and_described() -> None:
    offered = {kind for kind in map(vars(joblease).get, joblease.__all__) if kind in Exception.__subclasses__()}
    assert offered == set(ENDINGS) - {UnknownHandler}
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert all(f"`{kind.__name__}`" in readme for kind in offered)


def test_a_name_belongs_to_one_module() -> None:
    load_handlers(())
    with pytest.raises(ValueError, match=r"'demo' is defined twice: in joblease.demo and in "):
        handler("demo")(lambda job: job)


def test_a_handler_takes_the_job() -> None:
    with pytest.raises(TypeError, match="its first one is the JobContext"):
        handler("nothing")(lambda: None)


def test_a_name_that_no_job_request_can_have_is_refused() -> None:
    for name in ("Resize", "resize images", "-resize", "resize-", "", "é", "a" * 64, "resize\n"):
        with pytest.raises(ValueError, match="no JobRequest can name the handler"):
            handler(name)(lambda job: job)
    for name in ("resize_images", "a", "a" * 63, "v1.resize-images"):  # as the custom resource has it
        JobRequestSpec(handler=name)
        handler(name)(lambda job: job)
    with pytest.raises(TypeError, match=r"a handler needs a name: @handler\('resize-images'\)"):
        handler(lambda job: job)  # type: ignore[arg-type] # the decorator without its name


def generator(job: JobContext) -> Iterator[int]:
    yield 1


async def asynchronous_generator(job: JobContext) -> AsyncIterator[int]:
    yield 1


def keywords_only(*, job: JobContext) -> None: ...


def positional(job: JobContext, width: int, /) -> None: ...


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (generator, "is a generator"),
        (asynchronous_generator, "is a generator"),
        (functools.partial(generator), "is a generator"),
        (keywords_only, "takes no positional argument"),
        (positional, "width is positional-only"),
        (JobContext, "is no function"),
        (3, "is no function: 3"),
    ],
)
def test_what_cannot_be_called_as_a_handler_is_refused(function: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        handler("refused")(function)


def test_a_partial_belongs_to_the_module_of_its_function() -> None:
    load_handlers(())
    with pytest.raises(ValueError, match=r"'demo' is defined twice: in joblease.demo and in .*test_handlers"):
        handler("demo")(functools.partial(lambda job, steps: (job, steps), steps=1))


def test_a_step_is_reported_and_bounded() -> None:
    said: list[object] = []
    job = JobContext("1", report=said.append)
    job.step("one", progress=0.5)
    job.step()
    assert said == [
        {"message": "one", "progress": 0.5, "data": None},
        {"message": "", "progress": None, "data": None},
    ]
    with pytest.raises(ValueError, match="from 0 to 1"):
        job.step(progress=50)


def test_a_step_of_a_cancelled_job_stops_the_handler() -> None:
    with pytest.raises(JobCancelled):
        JobContext("1", cancelled=True).step()


def test_a_checkpoint_is_reported_and_is_the_last_one() -> None:
    said: list[Any] = []
    job = JobContext("1", report=said.append)
    assert JobContext("1").last_checkpoint is None
    state = {"row": 1, "when": dt.date(2026, 1, 2)}
    job.checkpoint(state)
    state["row"] = 2
    assert said == [{"checkpoint": {"row": 1, "when": "2026-01-02"}}]
    assert job.last_checkpoint == {"row": 1, "when": "2026-01-02"}
    job.cancelled = True
    with pytest.raises(JobCancelled):
        job.checkpoint({"row": 3})
    assert job.last_checkpoint == {"row": 1, "when": "2026-01-02"}


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        (None, TypeError, r"job\.checkpoint\(…\) takes a JSON object \(a dict\), not NoneType"),
        ([1], TypeError, r"job\.checkpoint\(…\) takes a JSON object \(a dict\), not list"),
        ({"x": object()}, TypeError, r"job\.checkpoint\(…\)\.x is"),
        ({"x": float("nan")}, ValueError, r"job\.checkpoint\(…\)\.x is nan, which JSON cannot hold"),
        ({"x": 1 << 64}, ValueError, "more than 64 bits"),
        ({"x": "y" * 65_536}, ValueError, r"job\.checkpoint\(…\) takes 65536 bytes of JSON at most, not 65544"),
    ],
)
def test_what_is_no_checkpoint_is_refused(state: Any, error: type[Exception], message: str) -> None:
    said: list[Any] = []
    with pytest.raises(error, match=message):
        JobContext("1", report=said.append).checkpoint(state)
    assert said == []


def test_importing_the_handler_api_is_cheap() -> None:
    import subprocess

    code = "import sys, joblease; print([m for m in ('azure', 'aio_pika', 'pydantic', 'kopf') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
