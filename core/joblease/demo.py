"""The built-in handler `demo`: something to run before there is a handler of one's own."""

import time

from joblease.handlers import JobContext, PermanentError, handler


@handler("demo")
def demo(job: JobContext, steps: int = 10, seconds: float = 5.0, fail_at: int = 0) -> dict[str, int]:
    """Take `steps` steps of `seconds` each; `fail_at` names a step that fails, to see retries."""
    if steps < 1 or seconds < 0:
        raise PermanentError("steps must be at least 1 and seconds at least 0")
    for number in range(1, steps + 1):
        time.sleep(seconds)
        if number == fail_at:
            raise RuntimeError(f"step {number} failed, as fail_at asked")
        job.step(f"finished step {number} of {steps}", progress=number / steps)
    return {"steps": steps}
