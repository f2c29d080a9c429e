"""Whose code is behind a call: read from the stack."""

from __future__ import annotations

from types import FrameType

from flyte_build.worker.places import SDK, is_users

_MACHINERY = "<frozen importlib"


def user_frame(frame: FrameType | None) -> FrameType | None:
    """The user's line that did it. None for the SDK's doing, and for what a library does while it is imported."""
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith((_MACHINERY, SDK)):
            return None
        if is_users(path):
            return frame
        frame = frame.f_back
    return None


def from_machinery(frame: FrameType | None) -> bool:
    """Whether the import system itself asks: lookups are recorded more exactly by `find_spec`."""
    return frame is not None and frame.f_code.co_filename.startswith(_MACHINERY)


def nearest_user(frame: FrameType | None) -> str:
    """The file of the user's that is behind a call, through whatever libraries; empty: none, we load it ourselves."""
    while frame is not None:
        if is_users(frame.f_code.co_filename):
            return frame.f_code.co_filename
        frame = frame.f_back
    return ""
