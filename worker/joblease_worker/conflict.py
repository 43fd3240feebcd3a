"""Why a job cannot run here now."""

from joblease.head import Head
from joblease.topology import DEFERRALS_HEADER


class Conflict(Exception):
    """The job cannot run here now: somebody else has it or its slot, storage does not answer, or no handler is here."""

    def __init__(self, reason: str, message: str, counter: str = DEFERRALS_HEADER, *, soon: int | None = None) -> None:
        """`counter` is the message's header that counts how often this was the reason.

        `soon`: the job itself runs, as far as one can see, under the claim of this epoch (0: of an unknown one). Its
        worker may have died.
        """
        super().__init__(message)
        self.reason = reason
        self.counter = counter
        self.soon = soon


def running(head: Head) -> Conflict:
    """Somebody runs the job, or has just ended it."""
    return Conflict("lease", f"{head.worker} runs the job", soon=head.epoch)
