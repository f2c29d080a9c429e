"""How the embedded control plane says no, in process and over HTTP alike."""

from __future__ import annotations


class Refused(Exception):
    """A request that is not granted. `code` is a Connect code, such as `invalid_argument`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
