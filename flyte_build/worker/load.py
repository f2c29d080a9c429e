"""Import a target's files, choose its environments, and serialize them: the whole work of one child process."""

from __future__ import annotations

import functools
import importlib
import os
import posixpath
import sys
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

from msgspec.structs import replace

from flyte_build import errors, sdk
from flyte_build.model import Discovery, EnvironmentDraft, ImageDraft
from flyte_build.state.files import encodable
from flyte_build.state.variables import BASE_VARIABLES
from flyte_build.worker.hooks import list_backwards
from flyte_build.worker.images import ImagePlanner
from flyte_build.worker.places import is_installed, is_users, link_target
from flyte_build.worker.protocol import Failure, LoadRequest, LoadResult
from flyte_build.worker.record import Recorder


def load(request: LoadRequest, progress: int) -> LoadResult:
    """Load one target. What fails because of the project is a failure in the result, with what was read so far."""
    folder = Path(request.folder)
    root = (folder / request.target.root_dir).resolve()
    _enter(root, request)
    target = request.target
    recorder = Recorder(folder, progress, (*BASE_VARIABLES, *target.pass_env), hermetic=target.hermetic)
    recorder.start()
    discovery, failure = None, None
    try:
        discovery = _discover(request, root, recorder, _import_files(request, root, recorder))
    except errors.StepError as error:
        failure = Failure.of(error)
    if target.hermetic and recorder.opaque:  # whether or not the code went on without it
        failure = Failure.of(errors.NotHermetic(settings=target.settings("hermetic"), done=recorder.opaque))
    return LoadResult(discovery=discovery, trace=recorder.finish(), failure=failure)


def _enter(root: Path, request: LoadRequest) -> None:
    """The process as the code will see it: in the root, with the root first on the import path."""
    os.chdir(root)
    os.environ.update({name: os.fsdecode(value) for name, value in request.environ.items()})
    target = request.target
    if request.moved_from:
        sys.path[:] = [_moved(path, request) for path in sys.path]
        list_backwards()
    own = [str(root)]
    if (target.environments or target.names) and target.sync_local_sys_paths:
        # As `flyte deploy FILE ENV` does: a file may import its siblings by their bare names.
        own.append(str((Path(request.folder) / target.path).resolve().parent))
    sys.path[:] = [*dict.fromkeys(own), *(path for path in sys.path if path not in ("", *own))]


def _moved(path: str, request: LoadRequest) -> str:
    """An entry of the import path, in the copy if it was in the folder."""
    inside = os.path.join(path, "").startswith(os.path.join(request.moved_from, ""))
    return request.folder + path[len(request.moved_from) :] if inside and not is_installed(path) else path


# --- importing


def _import_files(request: LoadRequest, root: Path, recorder: Recorder) -> tuple[str, ...]:
    """Import every file. Gives the warnings.

    Raises:
        StepError: a file raised, or left the interpreter.
    """
    failures = [error for file in request.files if (error := _import_file(file, request, root, recorder))]
    chosen = request.target.environments  # variables of one file, which must be there
    if failures and request.target.ignore_load_errors and not chosen:
        return tuple(error.message.partition("\n")[0] for error in failures)
    if len(failures) == 1:
        raise failures[0]
    if failures:
        raise errors.FilesRaised(place=request.target.place(), failures=tuple(error.message for error in failures))
    return ()


def _import_file(file: str, request: LoadRequest, root: Path, recorder: Recorder) -> errors.StepError | None:
    with recorder.paused():
        before = os.path.getsize(request.output)
    try:
        module = importlib.import_module(module_name(file))
    except BaseException as error:  # noqa: BLE001 the user's code may raise anything
        with recorder.paused():
            output = _printed(request, since=before)
            if isinstance(error, SystemExit):
                return _exited(error, file, request, output)
            return _raised(error, file, request, output=output, hidden=_hidden(request, recorder))
    with recorder.paused():
        return _mistaken(module, root / file, request)


def _mistaken(module: ModuleType, path: Path, request: LoadRequest) -> errors.StepError | None:
    """Whether another module of that name was there before, such as one of Python's own."""
    origin = getattr(getattr(module, "__spec__", None), "origin", None)
    if origin is None or os.path.realpath(origin) == os.path.realpath(path):
        return None
    return errors.ModuleNameTaken(
        settings=request.target.settings("root_dir"), file=_shown(str(path), request), name=module.__name__
    )


def module_name(file: str) -> str:
    """The dotted name under which a file is imported here and in the task's container."""
    parts = file.removesuffix(".py").split("/")
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _raised(
    error: BaseException, file: str, request: LoadRequest, *, output: str, hidden: dict[str, str]
) -> errors.FileRaised:
    where, line = _place(error, file, request)
    missing, missing_in = _missing_module(error, request)
    unpassed = _wanted(error, f"{where}:{line}", hidden)
    return errors.FileRaised(
        settings=request.target.settings("pass_env" if unpassed else "root_dir"),
        file=where,
        line=line,
        error=_in_one_line(error),
        traceback=_user_traceback(error, request),
        output=output,
        hints=tuple(_hints(request, {name: asked for name, asked in hidden.items() if name != unpassed})),
        unpassed=unpassed,
        missing=missing,
        missing_in=request.target.spelled(missing_in),
        excludable="" if os.path.isfile(os.path.join(request.folder, request.target.path)) else file,
    )


def _in_one_line(error: BaseException) -> str:
    """Type and text. Python puts the place of a syntax error before them, and notes and further lines after them."""
    lines = traceback.format_exception_only(type(error), error)
    return next(line for line in lines if not line.startswith("  ")).splitlines()[0]


def _missing_module(error: BaseException, request: LoadRequest) -> tuple[str, str]:
    """The module that was not found, and the folder above the target's files that holds it."""
    name = (error.name or "") if isinstance(error, ModuleNotFoundError) else ""
    path = Path(request.target.path)
    first = name.partition(".")[0]
    if not first or is_users(getattr(sys.modules.get(first), "__file__", None) or ""):
        return "", ""
    if path.suffix and not any(is_users(frame.filename) for frame in traceback.extract_tb(error.__traceback__)):
        # The target itself: a folder above it has a dot in its name, which no import can say.
        return path.stem, path.parent.as_posix()
    for folder in (path, *path.parents):
        place = Path(request.folder) / folder / first
        if place.is_dir() or place.with_name(f"{first}.py").is_file():
            return name, folder.as_posix()
    return name, ""


def _exited(stop: SystemExit, file: str, request: LoadRequest, output: str) -> errors.FileExited:
    where, line = _place(stop, file, request)
    return errors.FileExited(
        file=where,
        line=line,
        code="" if stop.code is None else repr(stop.code),
        traceback=_user_traceback(stop, request),
        output=output,
    )


def _hidden(request: LoadRequest, recorder: Recorder) -> dict[str, str]:
    """Variables that the code asked for and that are set outside only -> the line that asked first."""
    asked = recorder.environment.asked_by_user()
    return {name: line for name, line in asked.items() if name in request.hidden}


def _wanted(error: BaseException, place: str, hidden: dict[str, str]) -> str:
    """The variable for want of which a line failed; empty: none is known."""
    if isinstance(error, KeyError) and error.args[:1] and error.args[0] in hidden:
        return str(error.args[0])
    return next((name for name, line in hidden.items() if line == place), "")


def _hints(request: LoadRequest, hidden: dict[str, str]) -> Iterator[str]:
    for name, line in hidden.items():
        yield (
            f"{line}: reads the environment variable `{name}`, which is set here but not passed to the code; "
            f"add it to `pass_env` in {request.target.settings('pass_env')}"
        )


def _place(error: BaseException, file: str, request: LoadRequest) -> tuple[str, int]:
    """The user's line that failed: the deepest frame in a file of the user's."""
    if isinstance(error, SyntaxError) and error.filename and is_users(error.filename):
        return _shown(error.filename, request), error.lineno or 0
    frames = [f for f in traceback.extract_tb(error.__traceback__) if is_users(f.filename)]
    if not frames:
        root = os.path.normpath(os.path.join(request.folder, request.target.root_dir))
        return _shown(os.path.join(root, file), request), 1
    return _shown(frames[-1].filename, request), frames[-1].lineno or 0


def _user_traceback(error: BaseException, request: LoadRequest) -> str:
    """The traceback with the user's frames alone, and paths as the user writes them."""
    report = traceback.TracebackException.from_exception(error)
    _trim(report, request)
    return "".join(report.format())


def _trim(report: traceback.TracebackException | None, request: LoadRequest) -> None:
    if report is None:
        return
    kept = [frame for frame in report.stack if is_users(frame.filename)]
    for frame in kept:
        frame.filename = _shown(frame.filename, request)
    report.stack = traceback.StackSummary.from_list(kept)
    if getattr(report, "filename", None):
        report.filename = _shown(str(report.filename), request)
    for inner in (report.__cause__, report.__context__, *(getattr(report, "exceptions", None) or ())):
        _trim(inner, request)


def _shown(path: str, request: LoadRequest) -> str:
    """A path as the user writes it: relative to the manifest's folder when it is in there."""
    return os.path.relpath(path, request.folder) if path.startswith(os.path.join(request.folder, "")) else path


def _printed(request: LoadRequest, *, since: int) -> str:
    """What the code printed after the first `since` bytes. The streams hold nothing back: see `FIXED_VARIABLES`."""
    with open(request.output, "rb") as file:
        file.seek(since)
        return file.read().decode(errors="replace")


# --- choosing


def _discover(request: LoadRequest, root: Path, recorder: Recorder, warnings: tuple[str, ...]) -> Discovery:
    target = request.target
    with recorder.paused():
        _refuse_double_imports(request, recorder)
    chosen = _with_dependencies(_select(request), request)
    environments = list(_task_environments(chosen, request))
    if not environments:
        raise errors.NoEnvironments(settings=target.settings("path"), path=target.path)
    includes = {e.name: _includes(e, root) for e in environments}
    has_bundle = target.copy_style != "none" or bool(target.include) or any(includes.values())
    local = [*recorder.sources(), *recorder.other_modules()]
    loaded = tuple(sorted(filter(None, (_below(path, root) for path in local))))
    with recorder.paused():
        images = ImagePlanner(request, root, loaded).plan_all(environments, recorder)
    drafts = tuple(_drafts(environments, images, root, request, has_bundle=has_bundle))
    return Discovery(
        environments=tuple(replace(draft, include=includes[draft.name]) for draft in drafts),
        loaded_files=loaded,
        readers=recorder.readers(),
        warnings=tuple(
            map(encodable, (*warnings, *_outside(local, root, request), *_hints(request, _hidden(request, recorder))))
        ),
    )


def _drafts(
    environments: list[sdk.TaskEnvironment],
    images: dict[str, ImageDraft],
    root: Path,
    request: LoadRequest,
    *,
    has_bundle: bool,
) -> Iterator[EnvironmentDraft]:
    cache = sdk.image_cache_of(environments)
    sync_paths = request.target.sync_local_sys_paths
    for environment in environments:
        try:
            yield sdk.draft_environment(
                environment,
                images[environment.name],
                root=root,
                image_cache=cache,
                has_bundle=has_bundle,
                sync_paths=sync_paths,
            )
        except errors.TaskNotSerialized as error:
            file = _shown(str(root / error.file), request) if error.file else _declared(environment, request)
            raise errors.TaskNotSerialized(task=error.task, file=file, line=error.line, reason=error.reason) from error


def _select(request: LoadRequest) -> list[sdk.Environment]:
    """The environments that the manifest asks for, each once, in the order of the manifest or of loading."""
    if request.target.names:
        return [_named(name, request) for name in request.target.names]
    if not request.target.environments:
        return sdk.loaded_environments()
    module = sys.modules[module_name(request.files[0])]
    return [_variable(module, name, request) for name in request.target.environments]


def _named(name: str, request: LoadRequest) -> sdk.Environment:
    loaded = {environment.name: environment for environment in sdk.loaded_environments()}
    if name not in loaded:
        raise errors.EnvironmentNotReproduced(name=name, file=request.target.path, known=tuple(loaded))
    return loaded[name]


def _variable(module: ModuleType, name: str, request: LoadRequest) -> sdk.Environment:
    value = getattr(module, name, None)
    if isinstance(value, sdk.Environment):
        return value
    known = tuple(key for key, other in vars(module).items() if isinstance(other, sdk.Environment))
    place = request.target.place("environment")
    raise errors.VariableUnknown(place=place, file=request.target.path, name=name, known=known)


def _with_dependencies(selected: Iterable[sdk.Environment], request: LoadRequest) -> list[sdk.Environment]:
    """The selected environments and all that they depend on, depth first, dependencies before dependents.

    Raises:
        EnvironmentCycle: `depends_on` is circular.
        EnvironmentDuplicated: two different environments have one name.
    """
    seen: dict[str, sdk.Environment] = {}
    done: dict[str, sdk.Environment] = {}
    path: list[str] = []

    def visit(environment: sdk.Environment) -> None:
        name = environment.name
        first = seen.setdefault(name, environment)
        if first is not environment:
            raise errors.EnvironmentDuplicated(
                name=name, first=_declared(first, request), second=_declared(environment, request)
            )
        if name in path:
            raise errors.EnvironmentCycle(cycle=(*path[path.index(name) :], name), file=_declared(environment, request))
        if name in done:
            return
        path.append(name)
        for other in environment.depends_on:
            visit(other)
        path.pop()
        done[name] = environment

    for environment in selected:
        visit(environment)
    return list(done.values())


def _declared(environment: sdk.Environment, request: LoadRequest) -> str:
    return _shown(sdk.declaring_file(environment), request)


def _task_environments(environments: Iterable[sdk.Environment], request: LoadRequest) -> Iterator[sdk.TaskEnvironment]:
    for environment in environments:
        if isinstance(environment, sdk.TaskEnvironment):
            yield environment
        elif not request.target.skip_apps:
            raise errors.AppNotSupported(
                settings=request.target.settings("skip_apps"),
                name=environment.name,
                kind=type(environment).__name__,
                file=_declared(environment, request),
            )


def _refuse_double_imports(request: LoadRequest, recorder: Recorder) -> None:
    names: dict[str, list[str]] = {}
    sources = set(recorder.sources())
    folder_of = functools.cache(os.path.realpath)  # of many files, whose way there is looked up link by link
    for name, module in recorder.modules():
        file = getattr(module, "__file__", None)
        path = recorder.watched(file) or ""
        if path in sources and name != "__main__":
            folder, base = os.path.split(path)
            real = os.path.realpath(path) if link_target(path) else os.path.join(folder_of(folder), base)
            names.setdefault(real, []).append(name)
    for path, found in names.items():
        if len(found) > 1:
            raise errors.ModuleImportedTwice(
                settings=request.target.settings("root_dir"),
                file=_shown(path, request),
                names=tuple(sorted(found)),
                root_dir=request.target.spelled(_common_root(found, request.target.root_dir)),
            )


def _common_root(names: list[str], root_dir: str) -> str:
    """The folder from which the shorter of two names is found: `src` for `app` and `src.app`; else empty."""
    short, long = sorted(names, key=len)[:2]
    before = long.removesuffix(f".{short}")
    return posixpath.normpath(posixpath.join(root_dir, before.replace(".", "/"))) if before != long else ""


# --- files


def _includes(environment: sdk.Environment, root: Path) -> tuple[str, ...]:
    """`Environment.include`, anchored at the declaring file, relative to the root."""
    anchor = Path(sdk.declaring_file(environment) or root / "x").parent
    return tuple(os.path.relpath(os.path.normpath(anchor / entry), root) for entry in environment.include)


def _outside(paths: Iterable[str], root: Path, request: LoadRequest) -> Iterator[str]:
    """Warnings: local modules that the bundle cannot hold, since they lie outside the root."""
    for path in sorted(paths):
        if not _below(path, root):
            mend = f"or set `root_dir` in {request.target.settings('root_dir')} to a folder that holds it"
            problem = "imported from outside the root, so the bundle will not have it"
            yield f"{_shown(path, request)}: {problem}; install it in the image, {mend}"


def _below(path: str, root: Path) -> str:
    """An absolute path relative to the root; empty when it lies outside."""
    above = os.path.join(root, "")
    return path.removeprefix(above) if path.startswith(above) else ""
