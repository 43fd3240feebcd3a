"""The right to speak for a run, in its handler process."""

from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any

from joblease.handlers import JobContext

from joblease_worker import frames


class Run:
    """One run, and the right to speak of it, which ends with it."""

    def __init__(
        self,
        order: frames.Run,
        report: Callable[["Run", Mapping[str, Any]], None],
        send: Callable[[frames.Said], None],
    ) -> None:
        self.id = order.run
        self.deadline = order.deadline
        self.job = JobContext(**order.job, report=lambda step: report(self, step))
        self._send = send
        self._steps = 0
        self._ended = False
        self._speaking = Lock()

    def tell(self, said: Mapping[str, Any]) -> None:
        """Say a checkpoint or a step; steps are numbered in the order in which they are said.

        Raises `RuntimeError` after the end.
        """
        with self._speaking:
            if self._ended:
                raise RuntimeError(f"the run of job {self.job.id} has ended: its steps cannot be recorded any more")
            if "checkpoint" in said:
                self._send(frames.Checkpoint(run=self.id, state=said["checkpoint"]))
            else:
                self._steps += 1
                self._send(frames.Step(run=self.id, step=self._steps, **said))

    def end(self, ending: frames.Ended) -> None:
        """Say the ending, the last word."""
        with self._speaking:
            self._ended = True
            self._send(ending)
