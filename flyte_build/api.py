"""`flyte_build.deploy(env, ...)` from Python, as `flyte.deploy` is used. The same steps, receipts and state folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flyte_build import pipeline
from flyte_build.errors import EnvironmentWithoutFile, FileOutsideFolder, NothingToDeploy
from flyte_build.manifest import Manifest, read_manifest
from flyte_build.model import BackendSettings, CopyStyle, Fresh, ImageSettings, StoreSettings, Target, Upload, Value
from flyte_build.planning import plan
from flyte_build.project import Project
from flyte_build.state.folder import NAME as STATE_FOLDER
from flyte_build.steps import deploy as deploy_step
from flyte_build.steps import discover, upload

if TYPE_CHECKING:
    from flyte import Environment

MANIFEST = "deploy.toml"


class Deployment(Value, frozen=True):
    """What `deploy` did, or would do."""

    version: str
    environments: tuple[str, ...]
    tasks: tuple[str, ...]
    bundle_uri: str
    """Empty: there is no bundle, or it was not sent."""
    changed: bool
    """False: everything was deployed already, and nothing was sent."""


def deploy(
    *envs: Environment,
    version: str | None = None,
    copy_style: CopyStyle = "loaded_modules",
    dry_run: bool = False,
    root_dir: str | os.PathLike[str] | None = None,
    manifest: str | os.PathLike[str] | None = None,
    **variables: str,
) -> Deployment:
    """Deploy environments, and all that they depend on, from a script or a module.

    The file that calls this is loaded again in a process of its own, so what it declares at module level is what is
    deployed; while that happens, `deploy` does nothing.

    Args:
        envs: environments, or lists of them.
        version: of the tasks; None: made from the content.
        copy_style: which files go into the bundle.
        dry_run: say what would be done; nothing leaves the machine.
        root_dir: where imports and the bundle start; None: the manifest's folder.
        manifest: a deploy.toml whose tables `flyte`, `store` and `images` count; None: the nearest one at the current
            folder or above, else the embedded control plane.
        variables: what stands on the command line as `name=value`: `profile`, `project`, `domain`, `force`.

    Raises:
        BuildError: something of the user's is wrong, or the backend refused.
    """
    chosen = tuple(_flat(envs))
    if not chosen:
        raise NothingToDeploy()
    if "flyte_build.worker.load" in sys.modules:
        return Deployment(version=version or "", environments=(), tasks=(), bundle_uri="", changed=False)
    project = Project(_manifest(manifest, variables), os.environ, variables)
    file = _file(chosen, sys._getframe(1).f_globals.get("__file__"))
    target = Target(
        name=f"python/{_below(file, project.folder)}/{'+'.join(env.name for env in chosen)}",
        path=_below(file, project.folder),
        names=tuple(env.name for env in chosen),
        root_dir=_below(Path(root_dir).resolve(), project.folder) if root_dir is not None else ".",
        copy_style=copy_style,
        version=version or "{content}",
    )
    return _planned(project, target) if dry_run else _deployed(project, target)


def _deployed(project: Project, target: Target) -> Deployment:
    stale = [step for step in pipeline.STEPS if _bring_up_to_date(project, target, step)]
    project.index.save()
    result = project.result(target.name, deploy_step.NAME, deploy_step.Result)
    return Deployment(
        version=result.version,
        environments=project.result(target.name, discover.NAME, discover.Result).environments,
        tasks=result.tasks,
        bundle_uri=project.result(target.name, upload.NAME, Upload).uri,
        changed="deploy" in stale,
    )


def _planned(project: Project, target: Target) -> Deployment:
    for step in ("discover", "bundle", "images"):
        _bring_up_to_date(project, target, step)
    planned = plan(project, target)
    found = project.result(target.name, discover.NAME, discover.Result)
    return Deployment(
        version=planned.version,
        environments=found.environments,
        tasks=planned.register,
        bundle_uri="",
        changed=bool(planned.register),
    )


def _bring_up_to_date(project: Project, target: Target, step: str) -> bool:
    if isinstance(pipeline.judge(project, target, step), Fresh):
        return False
    pipeline.run(project, target, step)
    return True


def _flat(envs: Iterable[Any]) -> Iterable[Any]:
    for env in envs:
        yield from env if isinstance(env, list | tuple) else (env,)


def _manifest(given: str | os.PathLike[str] | None, variables: dict[str, str]) -> Manifest:
    folders = (Path.cwd(), *Path.cwd().parents)
    found = (
        Path(given) if given is not None else next((f / MANIFEST for f in folders if (f / MANIFEST).is_file()), None)
    )
    if found is not None:
        return read_manifest(found, variables, os.environ)
    folder = Path.cwd().resolve()
    default = BackendSettings()
    return Manifest(
        folder=str(folder),
        file=MANIFEST,
        backend=BackendSettings(
            project=variables.get("project", default.project), domain=variables.get("domain", default.domain)
        ),
        store=StoreSettings(url=(folder / STATE_FOLDER / "store").as_uri()),
        images=ImageSettings(),
        targets={},
    )


def _file(envs: tuple[Environment, ...], caller: str | None) -> Path:
    """The file to load: that which calls, or, from a prompt, that which declares the first environment."""
    path = caller or envs[0]._declaring_file
    if not path or not os.path.isfile(path):
        raise EnvironmentWithoutFile(name=envs[0].name)
    return Path(path).resolve()


def _below(path: Path, folder: Path) -> str:
    if not path.is_relative_to(folder):
        raise FileOutsideFolder(path=str(path), folder=str(folder))
    return path.relative_to(folder).as_posix()
