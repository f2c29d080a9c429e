"""`doit clean`: steps are made not done, and what nothing names any more goes with them."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from flyte_build import pipeline
from flyte_build.model import Value
from flyte_build.state import garbage
from flyte_build.steps import images

if TYPE_CHECKING:
    from flyte_build.project import Project


class Cleaned(Value, frozen=True):
    """What was removed, or would be."""

    images: tuple[str, ...]
    """URIs of those that the engine has no longer."""
    files: int
    size: int
    """Bytes of the files."""


def clean(project: Project, steps: Collection[tuple[str, str]], *, dryrun: bool = False) -> Cleaned:
    """Make steps not done, and remove what only they named. Nobody else may be at work in the state folder.

    Args:
        steps: (target, step). With every step of the manifest, what targets left that it does not have goes, too.

    Raises:
        StateUnwritable: a receipt cannot be removed.
    """
    targets = project.manifest.targets
    built = tuple(
        uri
        for target, step in steps
        if step == images.NAME
        for uri in images.clean(project, targets[target], dryrun=dryrun)
    )
    own = [str(path) for target, step in steps for path in _files(project, target, step)]
    whole = {(target, step) for target in targets for step in pipeline.STEPS} <= set(steps)
    strange = _strangers(project) if whole else []
    own += (str(file) for folder in strange for file in folder.iterdir())
    if dryrun:
        with contextlib.suppress(OSError):
            own += garbage.unnamed(project.state, without=set(own))
        would = garbage.measure(dict.fromkeys(own))
        return Cleaned(images=built, files=len(would.paths), size=would.size)
    left = garbage.measure(own)
    for target, step in steps:
        pipeline.forget(project, target, step)
    for folder in strange:
        shutil.rmtree(folder, ignore_errors=True)
    rest = project.collect()
    return Cleaned(images=built, files=len(left.paths) + len(rest.paths), size=left.size + rest.size)


def _files(project: Project, target: str, step: str) -> Iterator[Path]:
    """What a step itself writes into its target's folder, whether it is there or not."""
    state = project.state
    yield from (state.receipt(target, step), state.before(target, step), state.journal(target, step))


def _strangers(project: Project) -> list[Path]:
    """Folders of targets that the manifest does not have: renamed, another branch's, or deployed from Python."""
    with contextlib.suppress(OSError):
        folders = sorted(filter(Path.is_dir, (project.state.root / "targets").iterdir()))
        return [each for each in folders if project.state.target_of(each.name) not in project.manifest.targets]
    return []
