"""Declarative, incremental deployment of Flyte 2 projects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flyte_build.api import deploy
    from flyte_build.manifest import Manifest

__version__ = "0.1.0"
__all__ = ["Manifest", "__version__", "deploy"]


def __getattr__(name: str) -> Any:
    # Lazily, because a run with nothing to do must not pay for what it does not use.
    if name == "deploy":
        from flyte_build.api import deploy

        return deploy
    if name == "Manifest":
        from flyte_build.manifest import Manifest

        return Manifest
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
