"""The token that goes with each request: given, read from a pod's service account, or a kubeconfig's."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from joblease.client.errors import NotConfigured

ACCOUNT_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
READ_AGAIN = 60.0
"""Seconds after which a file is read again, also when its time of change is the same."""

Token: TypeAlias = Callable[[bool], str]
"""Gives the token, or nothing; told whether one that was read before is refused."""


def given(token: str | Callable[[], str]) -> Token:
    """One that the caller has, or whose function gives it."""
    if callable(token):
        return lambda _: text if (text := token()) == "" else _checked(text, "what the function token= gives")
    text = _checked(token, "token=")
    return lambda _: text


def _checked(token: object, what: str) -> str:
    """Without spaces around it; nothing of it is in an error. Raises `NotConfigured`."""
    if not isinstance(token, str):
        raise NotConfigured(f"{what} is to be text (str), not {type(token).__qualname__}")
    text = token.strip()
    if not text or any(not "!" <= each <= "~" for each in text):
        raise NotConfigured(f"{what} is empty, or has characters that no token has")
    return text


class FileToken:
    """One in a file that somebody else renews."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._text, self._changed, self._read_at = "", 0, float("-inf")

    def __call__(self, refused: bool) -> str:  # noqa: FBT001 - a `Token`
        """The token, read again when the file has changed."""
        try:
            changed = self._path.stat().st_mtime_ns
            old = time.monotonic() - self._read_at > READ_AGAIN
            if refused or old or changed != self._changed:
                self._text = self._path.read_text().strip()
                self._changed, self._read_at = changed, time.monotonic()
        except OSError as error:
            raise NotConfigured(f"the token in {self._path} cannot be read: {error.strerror}") from None
        return self._text


def of_kubeconfig(environment: Mapping[str, str] = os.environ) -> Token | None:
    """That of the kubeconfig's current context; None when there is no kubeconfig, or it has no token."""
    paths = environment.get("KUBECONFIG") or "~/.kube/config"
    if not any(Path(each).expanduser().is_file() for each in paths.split(os.pathsep) if each):
        return None
    try:
        from joblease import kubeconfig
    except ModuleNotFoundError:  # PyYAML, which nothing else of a client needs
        return None
    try:
        user = kubeconfig.user_of(kubeconfig.merged(paths))
    except (kubeconfig.Unusable, OSError):
        return None  # it is of no use, but nobody has said that it is to be used
    return _of_user(user)


def _of_user(user: Mapping[str, Any]) -> Token | None:
    if path := user.get("tokenFile"):
        return FileToken(Path(path))
    return given(str(user["token"])) if user.get("token") else None
