"""Names of jobs that we make up: short, readable, and as Kubernetes wants them."""

import re
import secrets
import string

from joblease.jobrequest import GROUP

RETRY_OF = f"{GROUP}/retry-of"
"""Annotation: the job whose spec this one repeats."""
_SUFFIX = 5
_LONGEST = 253
# Like Kubernetes' own generated names: no vowels, so no words by accident; nothing that looks like something else.
_LETTERS = "".join(sorted(set(string.ascii_lowercase + "2456789") - set("aeioul")))
_RETRY = re.compile(rf"-retry-[{_LETTERS}]{{{_SUFFIX}}}$")


def suffix() -> str:
    """A few random letters that make a name unique."""
    return "".join(secrets.choice(_LETTERS) for _ in range(_SUFFIX))


def stem(handler: str) -> str:
    """The handler's name as the beginning of an object's name, which knows no underscores."""
    return re.sub(r"[^a-z0-9]+", "-", handler.lower()).strip("-")[:50].rstrip("-") or "job"


def job_name(handler: str) -> str:
    """A name for a job that was given none."""
    return f"{stem(handler)}-{suffix()}"


def retry_name(name: str) -> str:
    """A name for another try; a retry of a retry does not grow longer."""
    beginning = _RETRY.sub("", name)[: _LONGEST - len("-retry-") - _SUFFIX].rstrip("-.")
    return f"{beginning}-retry-{suffix()}"
