"""Completion in bash, zsh and fish, and behind `kubectl joblease`.

click knows the commands and options. Names come from the cluster, in one short request; when it fails or takes longer,
there are none: whoever presses Tab gets no error, and does not wait.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterable
from typing import Any

import click
from click.shell_completion import CompletionItem, ShellComplete, get_completion_class, shell_complete
from joblease.kubeconfig import merged

from joblease_cli.connection import connect, files_of
from joblease_cli.kube import JobRequests, Scope

VARIABLE = "_JOBLEASE_COMPLETE"
_SECONDS = 2.0
_MOST = 500
Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


SHELLS = ("bash", "zsh", "fish")
_PROGRAM = f"""#!/bin/sh
{VARIABLE}=kubectl exec kubectl-joblease "$@"
"""


def script(shell: str) -> str:
    """What the shell is to read; for kubectl the program that it starts, `kubectl_complete-joblease`."""
    if shell == "kubectl":
        return _PROGRAM
    found = get_completion_class(shell)
    assert found, shell  # noqa: S101 - the command takes these alone
    return found(click.Command("joblease"), {}, "joblease", VARIABLE).source()


def among(words: Iterable[str]) -> Complete:
    """One of some words."""
    return lambda _context, _param, typed: [CompletionItem(word) for word in words if word.startswith(typed)]


def files(_context: click.Context, _param: click.Parameter, typed: str) -> list[CompletionItem]:
    """A file; the shell looks for it."""
    return [CompletionItem(typed, type="file")]


def _late(_number: int, _frame: object) -> None:
    raise TimeoutError


def _from(find: Callable[[JobRequests], Iterable[str]]) -> Complete:
    def complete(context: click.Context, _param: click.Parameter, typed: str) -> list[CompletionItem]:
        given = context.params
        try:
            signal.signal(signal.SIGALRM, _late)  # also of a credential plug-in
            signal.setitimer(signal.ITIMER_REAL, 2 * _SECONDS)
            jobs = connect(given.get("kubeconfig"), given.get("context"), given.get("namespace"), _SECONDS)
            found = sorted(set(find(jobs)))
        except Exception:  # noqa: BLE001 - see above
            return []
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        taken = [each for value in given.values() if isinstance(value, tuple) for each in value]
        return [CompletionItem(name) for name in found if name.startswith(typed) and name not in taken]

    return complete


def _of_jobs(value: Callable[[Any], str]) -> Complete:
    return _from(lambda jobs: filter(None, map(value, jobs.page(Scope(jobs.namespace), _MOST))))


jobs = _of_jobs(lambda job: job.name)
handlers = _of_jobs(lambda job: str(job.spec.get("handler", "")))
queues = _of_jobs(lambda job: str(job.spec.get("queue", "")))
namespaces = _from(lambda jobs: jobs.namespaces(_MOST))


def contexts(context: click.Context, _param: click.Parameter, typed: str) -> list[CompletionItem]:
    """A context of the kubeconfig."""
    try:
        found = merged(files_of(context.params.get("kubeconfig"))).contexts
    except (OSError, ValueError):
        return []
    return [CompletionItem(name) for name in found if name.startswith(typed)]


def for_kubectl(root: click.Group, arguments: list[str]) -> None:
    """Print what kubectl's completion reads: a word a line, then whether files are meant (`:0`) or not (`:4`)."""
    *before, typed = arguments or [""]
    found = ShellComplete(root, {}, "kubectl joblease", VARIABLE).get_completions(before, typed)
    words = [f"{each.value}\t{each.help}" if each.help else each.value for each in found if each.type == "plain"]
    sys.stdout.write("".join(f"{word}\n" for word in words) + (":4\n" if words or not found else ":0\n"))


def answered(root: click.Group) -> bool:
    """Answer a completion script, if it is one that asks."""
    question = os.environ.get(VARIABLE)
    if question == "kubectl":
        for_kubectl(root, sys.argv[1:])
    elif question:
        shell_complete(root, {}, "joblease", VARIABLE, question)
    return bool(question)
