"""Discover: run a target's files in a worker process, and keep what they declare as drafts.

The only step in which code of the user's runs.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from flyte_build import causes, children, errors
from flyte_build.model import CopyStyle, Discovery, Target, Value
from flyte_build.state import digest
from flyte_build.state.files import absent, encodable
from flyte_build.state.trace import Trace
from flyte_build.state.variables import HASH_SEED, OTHER_HASH_SEED
from flyte_build.steps import Outcome

if TYPE_CHECKING:
    from flyte_build.project import Project
    from flyte_build.worker.protocol import LoadRequest, LoadResult

NAME = "discover"
FORMAT = 3


class Key(Value, frozen=True):
    """What may change a discovery, besides the files, folders and variables that its trace names."""

    format: int
    python: str
    installed_distributions: str
    """Digest of all, the SDK among them."""
    path: str
    resolved_path: str
    """Where the path leads, and the root: links may be turned."""
    environments: tuple[str, ...]
    names: tuple[str, ...]
    all: bool
    recursive: bool
    root_dir: str
    resolved_root: str
    exclude: tuple[str, ...]
    bundled: bool
    code_in_images: bool
    """Whether `with_code_bundle` puts the code into images."""
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
    sdk: str
    """Version of the Flyte SDK."""


def key(project: Project, target: Target) -> Key:
    return Key(
        format=FORMAT,
        python=sys.version,
        installed_distributions=project.installed_distributions,
        path=target.path,
        resolved_path=project.place(target.path),
        environments=target.environments,
        names=target.names,
        all=target.all,
        recursive=target.recursive,
        root_dir=target.root_dir,
        resolved_root=project.place(target.root_dir),
        exclude=target.exclude,
        bundled=is_bundled(target.copy_style, target.include),
        code_in_images=target.copy_style == "none",
        ignore_load_errors=target.ignore_load_errors,
        sync_local_sys_paths=target.sync_local_sys_paths,
        pass_env=target.pass_env,
        skip_apps=target.skip_apps,
    )


def is_bundled(copy_style: CopyStyle, include: tuple[str, ...]) -> bool:
    return copy_style != "none" or bool(include)


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
    causes.keep_installed(project)
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
            sdk=_sdk_version(),
        ),
        key=None if project.is_as_installed else _unsettled(key(project, target)),
        trace=_join(loaded.trace, walked),
        outputs={f"objects/{content}": content for content in (kept, *_contexts(discovery))},
        summary=f"{tasks} task{'s' if tasks != 1 else ''} in {len(discovery.environments)} environment"
        f"{'s' if len(discovery.environments) != 1 else ''}",
        notes=discovery.warnings,
    )


@functools.cache
def _sdk_version() -> str:
    """Of this process, as of its loads: their parent imports the SDK once."""
    from importlib import metadata

    return metadata.version("flyte")


def _unsettled(key: Key) -> Key:
    """A key that no run has: what was loaded may be of before or of after something was installed."""
    return msgspec.structs.replace(key, installed_distributions="")


def _contexts(discovery: Discovery) -> Iterable[str]:
    """Digests of what images are built from."""
    builds = (environment.image.build for environment in discovery.environments)
    return dict.fromkeys(build.context for build in builds if build is not None and build.context)


def load_again(project: Project, target: Target, elsewhere: str) -> Discovery:
    """Run the target's files and keep nothing.

    Args:
        elsewhere: a copy of the manifest's folder to load instead, otherwise than usual: see `LoadRequest`.

    Raises:
        StepError: as `run`.
    """
    files, _ = python_files(project, target)
    loaded = _load(project, target, files[::-1] if elsewhere else files, elsewhere, keep=False)
    if loaded.failure is not None:
        raise loaded.failure.revive()
    assert loaded.discovery is not None
    return loaded.discovery


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
    """The files to import, relative to the root, and what the choice depends on.

    Raises:
        PathLeavesRoot
        FileUnreadable: a folder cannot be listed, so nobody knows what it declares.
        NoEnvironments: there are none.
    """
    root = project.root(target)
    path = project.resolved(target.path)
    if not path.is_relative_to(root):
        raise errors.PathLeavesRoot(
            place=target.place("path"),
            path=target.path,
            leads_to=project.place(target.path),
            root_dir=target.root_dir,
        )
    if path.is_file():
        return (path.relative_to(root).as_posix(),), Trace()
    from flyte_build import ignore

    rules = ignore.load(root, target.exclude)
    below = path.relative_to(root).as_posix()
    scan = ignore.scan(root, rules, below, keep_folder=_visible if target.recursive else _none)
    for refused in scan.refused:
        _require_open(root, refused)
    files = tuple(p for p in scan.files if p.endswith(".py") and os.path.basename(p) != "__init__.py")
    if not files:
        raise errors.NoEnvironments(settings=target.settings("path"), path=target.path)
    return files, trace_of_walk(
        project,
        target,
        files={**scan.ignore_files, **rules.files},
        folders=scan.folders,
        missing=(*scan.missing, *rules.missing),
    )


def _require_open(root: Path, path: str) -> None:
    """Lets pass what holds no code: special files, and links that lead nowhere or out."""
    try:
        os.listdir(root / path)
    except PermissionError as error:
        raise errors.FileUnreadable(path=path, reason=error.strerror or str(error)) from error
    except OSError:
        pass


def _visible(name: bytes) -> bool:
    return not name.startswith(b".")


def _none(_name: bytes) -> bool:
    return False


def trace_of_walk(
    project: Project, target: Target, *, files: dict[str, str], folders: dict[str, str], missing: Iterable[str]
) -> Trace:
    """What a choice of files under the root depends on; paths are relative to the root, and digests as in a trace."""
    name, root = _namer(project, target), project.root(target)
    return Trace(
        files={name(path): content for path, content in files.items()},
        folders={name(path): entries for path, entries in folders.items()},
        exists={name(path): absent(os.path.join(root, path)) for path in missing},
    )


def named(project: Project, target: Target, readers: Mapping[str, str]) -> dict[str, str]:
    """Path -> path, both as in a trace instead of relative to the root."""
    name = _namer(project, target)
    return {name(path): name(reader) for path, reader in readers.items()}


def _namer(project: Project, target: Target) -> Callable[[str], str]:
    inside = os.path.relpath(project.root(target), project.resolved("."))
    return lambda path: os.path.normpath(os.path.join(inside, path))


# --- the worker


def _load(
    project: Project, target: Target, files: tuple[str, ...], elsewhere: str = "", *, keep: bool = True
) -> LoadResult:
    """`keep`: put what images are built from into the state folder."""
    from flyte_build.worker.protocol import LoadRequest, LoadResult

    visible = project.visible_environ(target)
    with _scratch() as scratch:
        paths = {name: os.path.join(scratch, name) for name in ("result", "output", "stacks", "progress")}
        request = LoadRequest(
            folder=elsewhere or str(project.folder),
            moved_from=str(project.folder) if elsewhere else "",
            target=target,
            files=files,
            environ={name: os.fsencode(visible[name]) for name in target.pass_env if name in visible},
            hidden=tuple(sorted(name for name in project.environ if name not in visible and name == encodable(name))),
            state=str(project.state.root) if keep else os.path.join(scratch, "state"),
            **paths,
        )
        from flyte_build.steps import workers

        status = workers.load(project, request, OTHER_HASH_SEED if elsewhere else HASH_SEED)
        try:
            return msgspec.json.decode(Path(request.result).read_bytes(), type=LoadResult)
        except FileNotFoundError:
            raise _ended_early(request, status) from None


@contextlib.contextmanager
def _scratch() -> Iterator[str]:
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(children.scratch("flyte-build-"))
        except OSError as error:
            raise errors.ScratchUnwritable(folder=tempfile.tempdir or "") from error
        yield folder


def _ended_early(request: LoadRequest, status: int) -> errors.StepError:
    """Why a load left no result: a hang, a crash, or the code ended the interpreter."""
    from flyte_build.worker.protocol import BUG, UNWRITTEN

    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == UNWRITTEN and status >= 0:
        return errors.ScratchUnwritable(folder=tempfile.gettempdir())
    stacks = _read(request.stacks)
    output = _read(request.output)
    traceback, file, line = _last_user_line(stacks, request)
    last = os.path.join(request.folder, _read(request.progress).strip("\0") or request.target.path)
    file = file or os.path.relpath(last, request.folder)
    if stacks.startswith("Timeout") or status < 0:
        return errors.LoadTimedOut(
            settings=request.target.settings("load_timeout"),
            file=file,
            line=line,
            seconds=request.target.load_timeout,
            traceback=traceback,
            output=output,
        )
    if os.WIFSIGNALED(status):
        how = f"was killed by {signal.Signals(os.WTERMSIG(status)).name}"
        if os.WTERMSIG(status) == signal.SIGKILL:
            how += ", often for want of memory,"
    elif os.WEXITSTATUS(status) == BUG and not traceback:
        raise RuntimeError(f"the discovery process failed\n{output}")
    else:
        how = f"ended with exit code {os.WEXITSTATUS(status)}"
    return errors.LoadCrashed(file=file, line=line, how=how, traceback=traceback, output=output)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except FileNotFoundError:
        return ""


_NOT_USERS = (f"{os.sep}site-packages{os.sep}", os.path.join(os.path.dirname(os.path.dirname(__file__)), ""))
"""Parts of the paths of installed files, and of ours, which may be below the user's folder too."""


def _stack_of_the_load(stacks: str) -> str:
    """The main thread's stack: `faulthandler` writes that of the current thread first, or every thread's, ours last."""
    sections = re.split(r"^(?=Current thread|Thread|Stack)", stacks, flags=re.MULTILINE)
    return next((section for section in sections if section.startswith("Current thread")), sections[-1])


def _last_user_line(stacks: str, request: LoadRequest) -> tuple[str, str, int]:
    """The user's part of a stack written by `faulthandler`, oldest call first, and its last file and line."""
    folder = request.folder.encode("ascii", "backslashreplace").decode()  # as `faulthandler` writes it
    prefix = f'  File "{folder}{os.sep}'
    lines = _stack_of_the_load(stacks).splitlines()
    users = [line for line in lines if line.startswith(prefix) and not any(part in line for part in _NOT_USERS)]
    frames = [line.replace(prefix, '  File "') for line in users]
    if not frames:
        return "", "", 0
    _, file, rest = frames[0].split('"', 2)
    number = rest.removeprefix(", line ").partition(" ")[0]
    return "\n".join(["Traceback (most recent call last):", *reversed(frames)]), file, int(number)
