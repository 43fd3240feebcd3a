"""Seals what the dashboard gives out to get it back, and nobody is to read.

That is where a page of a list ended, and the numbers of the log. Both are of all namespaces: somebody who may see one
would learn how much happens in the others, and when.

All replicas have the same key, also after a restart, if they are given one.
"""

import hashlib
from base64 import urlsafe_b64encode

from cryptography.fernet import Fernet, InvalidToken


class Unreadable(ValueError):
    """It did not come from here."""


class Seals:
    """Encrypts and authenticates texts. Without a key they stay as they are."""

    def __init__(self, key: str | None) -> None:
        """`key` is any text; None where everybody may know everything."""
        purpose = b"joblease positions"
        self._key = Fernet(urlsafe_b64encode(hashlib.sha256(purpose + key.encode()).digest())) if key else None

    def seal(self, text: str) -> str:
        """The text, for nobody to read: letters, digits, `-` and `_`."""
        return self._key.encrypt(text.encode()).decode().rstrip("=") if self._key else text

    def open(self, sealed: str) -> str:
        """The text again. Raises `Unreadable`."""
        if self._key is None:
            return sealed
        try:
            return self._key.decrypt((sealed + "=" * (-len(sealed) % 4)).encode()).decode()
        except InvalidToken:
            raise Unreadable(sealed) from None


PLAIN = Seals(None)
