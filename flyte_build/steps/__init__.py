"""The steps of a deployment, in order: discover, bundle, images, upload, serialize, deploy.

Each has a `Key` (all that may change its result besides what its trace holds), `key` (that value, now), and `run`.
"""

from __future__ import annotations

from flyte_build.model import Value
from flyte_build.state.trace import Trace


class Outcome(Value, frozen=True):
    """What a run of a step leaves: its result, what that depends on, and a few words for the user."""

    result: Value
    key: Value | None = None
    """Kept instead of the key from before the work, where that no longer says what the result was made from."""
    trace: Trace = Trace()
    outputs: dict[str, str] = {}
    """Path below the state folder -> digest."""
    summary: str = ""
    notes: tuple[str, ...] = ()
    """Warnings and remarks to show."""
