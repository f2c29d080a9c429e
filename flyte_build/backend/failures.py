"""From a control plane's refusal to the error that the user reads. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from flyte_build.errors import (
    BackendFailed,
    BackendUnreachable,
    BuildError,
    NotLoggedIn,
    NotPermitted,
    RequestInvalid,
    ResourceNotFound,
)

_ABOUT_THE_CLIENT = re.compile(r"^Request failed: error sending request for url \(\S+\): ")
_INVALID = ("invalid_argument", "failed_precondition", "out_of_range")


@dataclass(frozen=True)
class Call:
    """What was asked of whom. `action` completes "cannot ..."."""

    endpoint: str
    project: str
    domain: str
    action: str

    @property
    def place(self) -> str:
        return f"{self.project}/{self.domain}"


def failure(call: Call, *, code: str, reason: str) -> BuildError:
    """The error for a Connect code and the control plane's own words."""
    reason = " ".join(reason.split()) or "no reason given"
    if code == "unauthenticated":
        return NotLoggedIn(endpoint=call.endpoint, reason=reason)
    if code == "permission_denied":
        return NotPermitted(endpoint=call.endpoint, action=call.action, place=call.place, reason=reason)
    if code in _INVALID:
        return RequestInvalid(endpoint=call.endpoint, action=call.action, place=call.place, reason=reason)
    if code == "not_found":
        return ResourceNotFound(endpoint=call.endpoint, action=call.action, place=call.place, reason=reason)
    return BackendFailed(endpoint=call.endpoint, action=call.action, place=call.place, code=code, reason=reason)


def unreachable(call: Call, reason: str) -> BackendUnreachable:
    """The error for an endpoint from which no answer came at all. `reason`: the HTTP client's words."""
    shorter = _ABOUT_THE_CLIENT.sub("", " ".join(reason.split()))
    return BackendUnreachable(endpoint=call.endpoint, reason=shorter)
