"""The command line's own rules: times, JSONPath, what comes before a command."""

from datetime import UTC, datetime
from typing import Any

import pytest
from joblease.jobrequest import JobRequestStatus
from joblease_cli import durations
from joblease_cli.commands import ROOT
from joblease_cli.failures import CommandError
from joblease_cli.job import Job
from joblease_cli.jsonpath import Template
from joblease_cli.show import sections
from joblease_cli.submit import start_after
from pydantic.alias_generators import to_camel

CONDITIONS = ("Succeeded", "Finished")


def test_describe_shows_every_field_of_a_status() -> None:
    conditions = [{"type": kind, "status": "True", "reason": "Completed", "message": "said"} for kind in CONDITIONS]
    values = {"jobId": "id-1", "message": "said", "progress": 73, "result": 1.5, "conditions": conditions}
    values["policy"] = {"group": "import-acme", "limit": 7, "maxAttempts": 9, "fromHandler": ["group", "limit"]}
    others = [to_camel(name) for name in JobRequestStatus.model_fields if to_camel(name) not in values]
    status = {**values, **{name: f"2026-01-02T03:04:{at:02}Z" for at, name in enumerate(others)}}
    metadata = {"uid": "id-1", "creationTimestamp": "2026-01-02T03:04:05Z"}
    job = Job({"metadata": metadata, "status": status})
    shown = str([dict(fields) for _, fields in sections(job)])
    missing = {name for name in others if str(status[name]) not in shown} | {
        name for name in ("id-1", "said", "73%", "1.5", *CONDITIONS) if name not in shown
    }
    assert missing == {"observedGeneration"}  # kubectl's concern
    assert dict(sections(job))["Policy"] == {
        "Group": "import-acme (from the handler)", "Limit": "7 (from the handler)", "Max attempts": "9 (default)",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("0", 0), ("1h30m", 5400), ("1.5h", 5400), ("500ms", 0.5), ("2d", 172_800), ("1w", 604_800),
     ("1h0m30s", 3630), ("0.5", 0.5)],
)  # fmt: skip
def test_times_are_read(text: str, seconds: float) -> None:
    assert durations.seconds(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "-1", "1 h", "1x", "h", "1mm", "1h 2m", "1..5h", "nan", "9" * 400, "9" * 20 + "h"]
)
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="time"):
        durations.seconds(text)


def test_whole_seconds_are_asked_for_where_the_resource_has_them() -> None:
    assert durations.whole_seconds("1.5h") == 5400
    with pytest.raises(ValueError, match="whole seconds"):
        durations.whole_seconds("500ms")


def test_a_start_is_a_time_or_so_long_from_now() -> None:
    now = datetime(2026, 11, 27, tzinfo=UTC)
    assert start_after("1h30m", now) == "2026-11-27T01:30:00Z"
    assert start_after("2030-01-01T00:00:00Z", now) == "2030-01-01T00:00:00Z"


FOUND: dict[str, Any] = {
    "items": [
        {"name": "a", "labels": {"k8s.io/x": "1", "a-b": "2"}, "size": 1.5, "tags": ["p", "q"]},
        {"name": "b", "size": 2, "ok": True},
    ]
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("", ""),
        ("plain", "plain"),
        ("{.items[*].name}", "a b"),
        ("{items[0].labels.a-b}", "2"),
        (r"{.items[0].labels.k8s\.io/x}", "1"),
        (r"{.items[0].labels['k8s\.io/x']}", "1"),
        ("{.items[?(@.size>1.6)].name}", "b"),
        ('{.items[?(@.name=="b")].ok}', "true"),
        ("{.items[-1].name}{.items[0:1].name}", "ba"),
        ("{..tags[*]}", "p q"),
        ("{.items[*].missing.deep}", ""),
        ("{.items[0].labels}", '{"k8s.io/x":"1","a-b":"2"}'),
        ('{range .items[*]}{.name}:{range .tags[*]}<{@}>{end}{"\\n"}{end}', "a:<p><q>\nb:\n"),
        ('{"{}"}', "{}"),
    ],
)
def test_templates_are_read_as_kubectl_reads_them(template: str, text: str) -> None:
    assert Template(template).render(FOUND) == text


@pytest.mark.parametrize("template", ["{", "}", "{.a", "{range .a}", "{end}", "{.a[}", '{"a}', "{.a[?(]}"])
def test_other_templates_are_refused(template: str) -> None:
    with pytest.raises(CommandError, match="cannot be read"):
        Template(template)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (["-n", "x", "list", "-w"], ["list", "-n", "x", "-w"]),
        (["-nx", "--context=y", "-A", "list"], ["list", "-nx", "--context=y", "-A"]),
        (["-p", "list=1", "submit", "list"], ["submit", "-p", "list=1", "list"]),
        (["--", "list"], ["--", "list"]),
        (["--help"], ["--help"]),
        (["-n"], ["-n"]),
        ([], []),
    ],
)
def test_options_before_the_command_are_its_own(given: list[str], read: list[str]) -> None:
    assert ROOT._command_first(given) == read
