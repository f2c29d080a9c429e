"""`flyte_build.deploy(env, ...)` from Python, as `flyte.deploy` is used. The same steps, receipts and state folder."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from flyte_build import errors, pipeline
from flyte_build.manifest import VARIABLES, Manifest, read_manifest
from flyte_build.manifest_targets import VERSION_PARTS, unknown_placeholders
from flyte_build.model import (
    BackendSettings,
    CopyStyle,
    Fresh,
    ImageSettings,
    Origin,
    StoreSettings,
    Target,
    Upload,
    Value,
)
from flyte_build.planning import plan
from flyte_build.project import MANIFEST, Project
from flyte_build.report import say, waiting_text
from flyte_build.state.folder import NAME as STATE_FOLDER
from flyte_build.steps import deploy as deploy_step
from flyte_build.steps import discover, upload

if TYPE_CHECKING:
    from flyte import Environment

    from flyte_build.sharing.run import Sharing

_PYTHON = "python:"
"""How the name of a target of this API begins; a target of a manifest has no colon."""
_CALL = "flyte_build.deploy()"
_ORIGIN = Origin(
    table=_CALL,
    elsewhere=dict.fromkeys(("include", "load_timeout", "skip_apps"), "a target of deploy.toml"),
)
"""Settings that are no arguments need a table."""


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
    pass_env: Iterable[str] = (),
    **variables: str | bool,
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
        manifest: a deploy.toml whose tables `flyte`, `store`, `cache` and `images` count; None: the nearest one at the
            current folder or above, else the embedded control plane.
        pass_env: names of environment variables that the code may read while it loads.
        variables: what stands on the command line as `name=value`: `profile`, `project`, `domain`, `force`,
            `wait`.

    Raises:
        BuildError: something of the user's is wrong, or the backend refused.
    """
    chosen = _environments(envs)
    if "flyte_build.worker.load" in sys.modules:
        return Deployment(version=version or "", environments=(), tasks=(), bundle_uri="", changed=False)
    words = {name: str(value).lower() if isinstance(value, bool) else value for name, value in variables.items()}
    project = Project(_manifest(manifest, words), os.environ, words)
    file = _file(chosen, sys._getframe(1).f_globals.get("__file__"))
    target = Target(
        name=f"{_PYTHON}{_below(file, project.folder)}:{'+'.join(env.name for env in chosen)}",
        path=_below(file, project.folder),
        origin=_ORIGIN,
        names=tuple(env.name for env in chosen),
        root_dir=_below(Path(root_dir).resolve(), project.folder) if root_dir is not None else ".",
        copy_style=copy_style,
        version=version or "{content}",
        pass_env=tuple(pass_env),
    )
    _check(target)
    try:
        with project.naming_tables(), project.working_alone(lambda holder: say(waiting_text(holder.description))):
            try:
                return _planned(project, target) if dry_run else _deployed(project, target)
            finally:
                if project.worked:
                    project.collect()
    finally:
        project.close()


def _deployed(project: Project, target: Target) -> Deployment:
    sharing = _fetched(project, target)
    made: list[str] = []
    try:
        stale = [step for step in pipeline.STEPS if _bring_up_to_date(project, target, step)]
        made = [target.name] if stale else []
    finally:
        project.index.save()
        if sharing is not None:
            sharing.finish(made)
            for warning in sharing.warnings:
                warnings.warn(warning, stacklevel=3)
    result = project.result(target.name, deploy_step.NAME, deploy_step.Result)
    return Deployment(
        version=result.version,
        environments=project.result(target.name, discover.NAME, discover.Result).environments,
        tasks=result.tasks,
        bundle_uri=project.result(target.name, upload.NAME, Upload).uri,
        changed="deploy" in stale,
    )


def _fetched(project: Project, target: Target) -> Sharing | None:
    """The shared cache, asked for a target that is stale; None when there is none or nothing to ask."""
    if not project.manifest.cache.url or all(_is_fresh(project, target, step) for step in pipeline.STEPS):
        return None
    from flyte_build.sharing.run import Sharing

    sharing = Sharing(project)
    sharing.fetch([target])
    return sharing


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
    if _is_fresh(project, target, step):
        return False
    pipeline.run(project, target, step)
    return True


def _is_fresh(project: Project, target: Target, step: str) -> bool:
    return isinstance(pipeline.judge(project, target, step), Fresh)


def _environments(given: Iterable[Any]) -> tuple[Environment, ...]:
    flat = [env for item in given for env in (item if isinstance(item, list | tuple) else (item,))]
    for env in flat:
        if not (hasattr(env, "depends_on") and hasattr(env, "name")):
            raise errors.NotAnEnvironment(given=repr(env))
    if not flat:
        raise errors.NothingToDeploy()
    return tuple(flat)


def _check(target: Target) -> None:
    """What a manifest's target is checked for.

    Raises:
        ManifestError: an argument is wrong, or two do not go together.
    """
    styles = get_args(CopyStyle)
    if target.copy_style not in styles:
        raise errors.UnknownChoice(place=_argument("copy_style"), value=target.copy_style, choices=styles)
    for part in unknown_placeholders(target.version, VERSION_PARTS):
        raise errors.UnknownPlaceholder(place=_argument("version"), name=part, known=VERSION_PARTS)
    if target.copy_style == "none" and "{content}" in target.version:
        raise errors.VersionRequired(place=_argument("copy_style"))
    if not Path(target.path).is_relative_to(target.root_dir):
        raise errors.PathOutsideRoot(place=_argument("root_dir"), path=target.path, root_dir=target.root_dir)


def _argument(name: str) -> errors.Place:
    return errors.Place(_CALL, 0, name)


def _manifest(given: str | os.PathLike[str] | None, variables: dict[str, str]) -> Manifest:
    folders = (Path.cwd(), *Path.cwd().parents)
    found = (
        Path(given) if given is not None else next((f / MANIFEST for f in folders if (f / MANIFEST).is_file()), None)
    )
    if found is not None:
        return read_manifest(found, variables, os.environ)
    for name in variables.keys() - set(VARIABLES):
        raise errors.CommandLineVariableUnknown(name=name, known=VARIABLES)
    if "profile" in variables:
        raise errors.UnknownProfile(file=MANIFEST, name=variables["profile"], known=())
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
        raise errors.EnvironmentWithoutFile(name=envs[0].name)
    return Path(path).resolve()


def _below(path: Path, folder: Path) -> str:
    if not path.is_relative_to(folder):
        raise errors.FileOutsideFolder(path=str(path), folder=str(folder))
    return path.relative_to(folder).as_posix()
