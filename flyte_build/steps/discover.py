"""Discover: run a target's files in a worker process, and keep what they declare as drafts.

The only step in which code of the user's runs.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from flyte_build import errors
from flyte_build.model import CopyStyle, Discovery, Target, Value
from flyte_build.state import digest
from flyte_build.state.trace import Trace, listing_digest
from flyte_build.steps import Outcome

if TYPE_CHECKING:
    from flyte_build.ignore import Ignore, Scan
    from flyte_build.project import Project
    from flyte_build.worker.protocol import LoadRequest, LoadResult

NAME = "discover"
FORMAT = 1


class Key(Value, frozen=True):
    """What may change a discovery, besides the files, folders and variables that its trace names."""

    format: int
    python: str
    installed_distributions: str
    """Digest of the names and versions of all, the SDK among them."""
    path: str
    environments: tuple[str, ...]
    names: tuple[str, ...]
    all: bool
    recursive: bool
    root_dir: str
    exclude: tuple[str, ...]
    bundled: bool
    ignore_load_errors: bool
    sync_local_sys_paths: bool
    pass_env: tuple[str, ...]
    skip_apps: bool


class Result(Value, frozen=True):
    discovery: str
    """Digest of the `Discovery`, which is kept under it."""
    files: str
    """Digest of what a bundle takes from it: the loaded files and the includes."""
    images: str
    """Digest of what images take from it."""
    environments: tuple[str, ...]
    tasks: int


def key(project: Project, target: Target) -> Key:
    return Key(
        format=FORMAT,
        python=sys.version,
        installed_distributions=installed_distributions(project),
        path=target.path,
        environments=target.environments,
        names=target.names,
        all=target.all,
        recursive=target.recursive,
        root_dir=target.root_dir,
        exclude=target.exclude,
        bundled=is_bundled(target.copy_style, target.include),
        ignore_load_errors=target.ignore_load_errors,
        sync_local_sys_paths=target.sync_local_sys_paths,
        pass_env=target.pass_env,
        skip_apps=target.skip_apps,
    )


def is_bundled(copy_style: CopyStyle, include: tuple[str, ...]) -> bool:
    return copy_style != "none" or bool(include)


def installed_distributions(project: Project) -> str:
    """Digest of which distributions are installed, read from the names of their metadata folders."""
    folders = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    names = {
        name
        for folder in folders
        for name in project.index.listing(folder) or ()
        if name.endswith((".dist-info", ".egg-info", ".pth", ".egg-link"))
    }
    return digest.of_parts("distributions", sorted(names))


def load(project: Project, target: Target) -> Discovery:
    """The discovery that the receipt names."""
    result = project.result(target.name, NAME, Result)
    return msgspec.json.decode(project.state.object(result.discovery).read_bytes(), type=Discovery)


def run(project: Project, target: Target) -> Outcome:
    """Run the target's files.

    Raises:
        StepError: the code cannot be loaded, or declares something that cannot be deployed.
    """
    files, walked = python_files(project, target)
    loaded = _load(project, target, files)
    if loaded.failure is not None:
        raise loaded.failure.revive()
    assert loaded.discovery is not None
    discovery = loaded.discovery
    kept = project.state.put_object(discovery.json())
    tasks = sum(len(environment.tasks) for environment in discovery.environments)
    return Outcome(
        result=Result(
            discovery=kept,
            files=_files_digest(discovery),
            images=digest.of_parts(
                "images", [part for e in discovery.environments for part in (e.name, e.image.json())]
            ),
            environments=tuple(environment.name for environment in discovery.environments),
            tasks=tasks,
        ),
        trace=_join(loaded.trace, walked),
        outputs={f"objects/{kept}": kept},
        summary=f"{tasks} task{'s' if tasks != 1 else ''} in {len(discovery.environments)} environment"
        f"{'s' if len(discovery.environments) != 1 else ''}",
        notes=discovery.warnings,
    )


def _files_digest(discovery: Discovery) -> str:
    includes = [f"include:{entry}" for environment in discovery.environments for entry in environment.include]
    return digest.of_parts("files", (*discovery.loaded_files, *includes))


def _join(loaded: Trace, walked: Trace) -> Trace:
    return msgspec.structs.replace(
        loaded,
        files={**loaded.files, **walked.files},
        folders={**loaded.folders, **walked.folders},
        exists={**loaded.exists, **walked.exists},
    )


# --- which files


def python_files(project: Project, target: Target) -> tuple[tuple[str, ...], Trace]:
    """The files to import, relative to the root, and what the choice depends on."""
    root = project.root(target)
    path = (project.folder / target.path).resolve()
    if path.is_file():
        return (path.relative_to(root).as_posix(),), Trace()
    from flyte_build import ignore

    rules = ignore.load(root, target.exclude)
    below = path.relative_to(root).as_posix()
    scan = ignore.scan(root, rules, below, keep_folder=_visible if target.recursive else _none)
    files = tuple(p for p in scan.files if p.endswith(".py") and os.path.basename(p) != "__init__.py")
    if not files:
        raise errors.NoEnvironments(target=target.name, path=target.path)
    return files, trace_of_scan(project, target, scan, rules)


def _visible(name: bytes) -> bool:
    return not name.startswith(b".")


def _none(_name: bytes) -> bool:
    return False


def trace_of_scan(project: Project, target: Target, scan: Scan, rules: Ignore) -> Trace:
    """What the choice of files by a walk depends on."""
    root = project.root(target)
    inside = os.path.relpath(root, project.folder.resolve())

    def name(path: str) -> str:
        return os.path.normpath(os.path.join(inside, path))

    return Trace(
        files={name(p): project.index.digest(str(root / p)) for p in (*scan.ignore_files, *rules.files)},
        folders={name(p): listing_digest(project.index.listing(str(root / p))) for p in scan.folders},
        exists=dict.fromkeys(map(name, (*scan.missing, *rules.missing)), ""),
    )


# --- the worker


def _load(project: Project, target: Target, files: tuple[str, ...]) -> LoadResult:
    from flyte_build.worker.protocol import LoadRequest, LoadResult

    visible = project.visible_environ(target)
    with tempfile.TemporaryDirectory(prefix="flyte-build-") as scratch:
        paths = {name: os.path.join(scratch, name) for name in ("result", "output", "stacks", "progress")}
        request = LoadRequest(
            folder=str(project.folder),
            target=target,
            files=files,
            environ={name: visible[name] for name in target.pass_env if name in visible},
            hidden=tuple(sorted(name for name in project.environ if name not in visible)),
            **paths,
        )
        from flyte_build.steps.workers import shared_zygote

        status = shared_zygote(project).run(request)
        try:
            return msgspec.json.decode(Path(request.result).read_bytes(), type=LoadResult)
        except FileNotFoundError:
            raise _ended_early(request, status) from None


def _ended_early(request: LoadRequest, status: int) -> errors.StepError:
    """Why a load left no result: a hang, a crash, or the code ended the interpreter."""
    from flyte_build.worker.protocol import BUG

    stacks = _read(request.stacks)
    output = _read(request.output)
    traceback, file, line = _last_user_line(stacks, request)
    file = file or os.path.relpath(_read(request.progress).strip("\0") or request.target.path, request.folder)
    name = request.target.name
    if stacks.startswith("Timeout"):
        return errors.LoadTimedOut(
            target=name, file=file, line=line, seconds=request.target.load_timeout, traceback=traceback, output=output
        )
    if os.WIFSIGNALED(status):
        how = f"was killed by {signal.Signals(os.WTERMSIG(status)).name}"
        if os.WTERMSIG(status) == signal.SIGKILL:
            how += ", often for want of memory,"
    elif os.WEXITSTATUS(status) == BUG:
        raise RuntimeError(f"the discovery process failed\n{output}")
    else:
        how = f"ended with exit code {os.WEXITSTATUS(status)}"
    return errors.LoadCrashed(target=name, file=file, line=line, how=how, traceback=traceback, output=output)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except FileNotFoundError:
        return ""


def _last_user_line(stacks: str, request: LoadRequest) -> tuple[str, str, int]:
    """The user's part of a stack written by `faulthandler`, oldest call first, and its last file and line."""
    prefix = f'  File "{request.folder}{os.sep}'
    frames = [line.replace(prefix, '  File "') for line in stacks.splitlines() if line.startswith(prefix)]
    if not frames:
        return "", "", 0
    _, file, rest = frames[0].split('"', 2)
    number = rest.removeprefix(", line ").partition(" ")[0]
    return "\n".join(["Traceback (most recent call last):", *reversed(frames)]), file, int(number)
