"""JobLease: every job is run by exactly one worker at a time.

This package is what the programs agree on, and what a handler's author imports. Only the handler API is imported
here, so that a handler's process pays for nothing else.
"""

from joblease.handlers import JobCancelled, JobContext, PermanentError, handler

__all__ = ["JobCancelled", "JobContext", "PermanentError", "__version__", "handler"]

__version__ = "0.1.0"
