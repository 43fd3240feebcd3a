"""Names of jobs that we make up: short, readable, and as Kubernetes wants them."""

import hashlib
import re
import secrets
import string
from collections.abc import Mapping
from typing import Any

from joblease.jobrequest import GROUP

RETRY_OF = f"{GROUP}/retry-of"
"""Annotation: the job whose spec this one repeats."""
_OWNERS = frozenset({"app.kubernetes.io/instance", "app.kubernetes.io/managed-by"})
"""Labels by which Argo CD and Helm know what is theirs to delete; a retry is not."""
_SUFFIX = 5
_LONGEST = 253
# Like Kubernetes' own generated names: no vowels, so no words by accident; nothing that looks like something else.
_LETTERS = "".join(sorted(set(string.ascii_lowercase + "2456789") - set("aeioul")))
_RETRY = re.compile(rf"-retry-[{_LETTERS}]{{{_SUFFIX}}}$")


def suffix(seed: str = "", length: int = _SUFFIX) -> str:
    """A few letters that make a name unique: random ones, or always the same for a seed."""
    drawn = hashlib.sha256(seed.encode()).digest() if seed else secrets.token_bytes(32)
    number, letters = int.from_bytes(drawn), ""
    for _ in range(length):
        number, place = divmod(number, len(_LETTERS))
        letters += _LETTERS[place]
    return letters


def stem(handler: str) -> str:
    """The handler's name as the beginning of an object's name, which knows no underscores."""
    return re.sub(r"[^a-z0-9]+", "-", handler.lower()).strip("-")[:50].rstrip("-") or "job"


def job_name(handler: str, seed: str = "", *, of_many: bool = False) -> str:
    """A name for a job that was given none; unique also among millions (`of_many`)."""
    return f"{stem(handler)}-{suffix(seed, 2 * _SUFFIX if of_many else _SUFFIX)}"


def retry_labels(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Labels for another try of the job with this metadata."""
    return {key: value for key, value in (metadata.get("labels") or {}).items() if key not in _OWNERS}


def retry_name(name: str, seed: str = "") -> str:
    """A name for another try; a retry of a retry does not grow longer."""
    beginning = _RETRY.sub("", name)[: _LONGEST - len("-retry-") - _SUFFIX].rstrip("-.")
    return f"{beginning}-retry-{suffix(seed)}"
