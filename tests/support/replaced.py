"""A module of handlers that puts others in the place of the standard library's functions, as gevent does.

`support.replaced` imitates it: whatever asks for them once this was imported is told that it must not. With
`GEVENT=1` it is gevent itself.
"""

import importlib
import os
import queue
import select
import signal
import socket
import threading
import time
from typing import Any

from joblease import JobContext, handler


def _other(*_: Any, **__: Any) -> Any:
    raise AssertionError("this belongs to the handlers' library")


def _imitate() -> None:
    for module, names in {
        threading: ("Lock", "RLock", "Thread", "Event", "Condition", "get_ident", "main_thread", "current_thread"),
        queue: ("SimpleQueue", "Queue"),
        socket: ("socket", "socketpair", "create_connection"),
        select: ("select", "poll", "epoll"),
        os: ("fork", "read", "write"),
        time: ("sleep",),
        signal: ("signal",),
    }.items():
        for name in names:
            setattr(module, name, _other)


if os.environ.get("GEVENT"):
    importlib.import_module("gevent.monkey").patch_all()
else:
    _imitate()


@handler("replaced")
def replaced(job: JobContext, *, fail: bool = False) -> int:
    job.step("one")
    if fail:
        raise ValueError("asked for")
    if os.environ.get("GEVENT"):
        gevent = importlib.import_module("gevent")
        gevent.joinall([gevent.spawn(job.step, f"greenlet {number}") for number in range(3)], raise_error=True)
        time.sleep(0.01)
    return os.getpid()


@handler("replaced-hold")
def hold(job: JobContext) -> None:
    job.step("holding")
    while True:
        sum(range(1_000))
