"""Copies of a handler process that its handler makes with `os.fork`."""

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator


@contextlib.contextmanager
def no_copies() -> Iterator[None]:
    """End a copy of this process, made by `os.fork`, that comes out of the block: only the original goes on."""
    pid = os.getpid()
    code = 1
    try:
        yield
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else leaving.code is not None
        raise
    except BaseException:
        if os.getpid() != pid:
            traceback.print_exc()
        raise
    finally:
        if os.getpid() != pid:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):
                    stream.flush()
            os._exit(code)
