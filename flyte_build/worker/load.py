"""Import a target's files, choose its environments, and serialize them: the whole work of one child process."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

from msgspec.structs import replace

from flyte_build import errors, sdk
from flyte_build.model import Discovery, Target
from flyte_build.worker.protocol import Failure, LoadRequest, LoadResult
from flyte_build.worker.record import Recorder


def load(request: LoadRequest, progress: int) -> LoadResult:
    """Load one target. What fails because of the project is a failure in the result, with what was read so far."""
    folder = Path(request.folder)
    root = (folder / request.target.root_dir).resolve()
    _enter(root, request)
    recorder = Recorder(folder, progress)
    recorder.start()
    try:
        warnings = _import_files(request, recorder)
    except errors.StepError as error:
        return LoadResult(discovery=None, trace=recorder.finish(), failure=Failure.of(error))
    trace = recorder.finish()
    try:
        discovery = _discover(request, root, recorder, warnings)
    except errors.StepError as error:
        return LoadResult(discovery=None, trace=trace, failure=Failure.of(error))
    return LoadResult(discovery=discovery, trace=trace)


def _enter(root: Path, request: LoadRequest) -> None:
    """The process as the code will see it: in the root, with the root first on the import path."""
    os.chdir(root)
    os.environ.update(request.environ)
    target = request.target
    own = [str(root)]
    if (target.environments or target.names) and target.sync_local_sys_paths:
        # As `flyte deploy FILE ENV` does: a file may import its siblings by their bare names.
        own.append(str((Path(request.folder) / target.path).resolve().parent))
    sys.path[:] = [*dict.fromkeys(own), *(path for path in sys.path if path not in ("", *own))]


# --- importing


def _import_files(request: LoadRequest, recorder: Recorder) -> tuple[str, ...]:
    """Import every file. Gives the warnings.

    Raises:
        StepError: a file raised, or left the interpreter.
    """
    failures = [error for file in request.files if (error := _import_file(file, request, recorder))]
    if failures and request.target.ignore_load_errors:
        return tuple(error.message.partition("\n")[0] for error in failures)
    if len(failures) == 1:
        raise failures[0]
    if failures:
        raise errors.FilesRaised(target=request.target.name, failures=tuple(error.message for error in failures))
    return ()


def _import_file(file: str, request: LoadRequest, recorder: Recorder) -> errors.StepError | None:
    try:
        importlib.import_module(module_name(file))
    except SystemExit as stop:
        return _exited(stop, file, request)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 the user's code may raise anything
        return _raised(error, file, request, recorder)
    return None


def module_name(file: str) -> str:
    """The dotted name under which a file is imported here and in the task's container."""
    parts = file.removesuffix(".py").split("/")
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _raised(error: BaseException, file: str, request: LoadRequest, recorder: Recorder) -> errors.FileRaised:
    where, line = _place(error, file, request)
    return errors.FileRaised(
        target=request.target.name,
        file=where,
        line=line,
        error="".join(traceback.format_exception_only(type(error), error)).strip().splitlines()[-1],
        traceback=_user_traceback(error, request),
        output=_printed(request),
        hints=tuple(_hints(request, recorder)),
    )


def _exited(stop: SystemExit, file: str, request: LoadRequest) -> errors.FileExited:
    where, line = _place(stop, file, request)
    return errors.FileExited(
        target=request.target.name,
        file=where,
        line=line,
        code="" if stop.code is None else repr(stop.code),
        traceback=_user_traceback(stop, request),
        output=_printed(request),
    )


def _hints(request: LoadRequest, recorder: Recorder) -> Iterator[str]:
    for name, line in recorder.environment.asked_by_user().items():
        if name in request.hidden:
            yield (
                f"{line}: reads the environment variable `{name}`, which is set here but not passed to the code; "
                f"add it to `pass_env` in [targets.{request.target.name}]"
            )


def _place(error: BaseException, file: str, request: LoadRequest) -> tuple[str, int]:
    """The user's line that failed: the deepest frame in a file of the user's."""
    if isinstance(error, SyntaxError) and error.filename and _is_users(error.filename, request):
        return _shown(error.filename, request), error.lineno or 0
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _is_users(f.filename, request)]
    if not frames:
        root = os.path.normpath(os.path.join(request.folder, request.target.root_dir))
        return _shown(os.path.join(root, file), request), 1
    return _shown(frames[-1].filename, request), frames[-1].lineno or 0


def _user_traceback(error: BaseException, request: LoadRequest) -> str:
    """The traceback without our frames and the import system's, with paths as the user writes them."""
    report = traceback.TracebackException.from_exception(error)
    _trim(report, request)
    return "".join(report.format())


def _trim(report: traceback.TracebackException | None, request: LoadRequest) -> None:
    if report is None:
        return
    kept = [frame for frame in report.stack if not _is_ours(frame.filename)]
    for frame in kept:
        frame.filename = _shown(frame.filename, request)
    report.stack = traceback.StackSummary.from_list(kept)
    if getattr(report, "filename", None):
        report.filename = _shown(str(report.filename), request)
    _trim(report.__cause__, request)
    _trim(report.__context__, request)


_PACKAGE = os.path.join(str(Path(__file__).resolve().parents[1]), "")


def _is_ours(path: str) -> bool:
    return path.startswith((_PACKAGE, "<frozen")) or path == importlib.__file__


def _is_users(path: str, request: LoadRequest) -> bool:
    return path.startswith(os.path.join(request.folder, "")) and not _is_ours(path)


def _shown(path: str, request: LoadRequest) -> str:
    return os.path.relpath(path, request.folder) if _is_users(path, request) else path


def _printed(request: LoadRequest) -> str:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return Path(request.output).read_text(errors="replace")


# --- choosing


def _discover(request: LoadRequest, root: Path, recorder: Recorder, warnings: tuple[str, ...]) -> Discovery:
    target = request.target
    _refuse_double_imports(request, recorder)
    selected = _select(request)
    chosen = _with_dependencies(selected, request)
    environments = list(_task_environments(chosen, target, root))
    if not environments:
        raise errors.NoEnvironments(target=target.name, path=target.path)
    includes = {e.name: _includes(e, root) for e in environments}
    has_bundle = target.copy_style != "none" or bool(target.include) or any(includes.values())
    cache = sdk.image_cache_of(environments)
    drafts = tuple(
        sdk.draft_environment(
            environment, root=root, image_cache=cache, has_bundle=has_bundle, sync_paths=target.sync_local_sys_paths
        )
        for environment in environments
    )
    local = [*recorder.sources(), *recorder.extensions()]
    return Discovery(
        environments=tuple(replace(draft, include=includes[draft.name]) for draft in drafts),
        selected=tuple(dict.fromkeys(environment.name for environment in selected)),
        loaded_files=tuple(sorted(_below(path, root) for path in local if _below(path, root))),
        warnings=(*warnings, *_outside(local, root, request), *_hints(request, recorder)),
    )


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
    raise errors.VariableUnknown(target=request.target.name, file=request.target.path, name=name, known=known)


def _with_dependencies(selected: Iterable[sdk.Environment], request: LoadRequest) -> list[sdk.Environment]:
    """The selected environments and all that they depend on, depth first, dependencies before dependents.

    Raises:
        EnvironmentCycle: `depends_on` is circular.
        EnvironmentDuplicated: two different environments have one name.
    """
    done: dict[str, sdk.Environment] = {}
    path: list[str] = []

    def visit(environment: sdk.Environment) -> None:
        name = environment.name
        if name in path:
            raise errors.EnvironmentCycle(cycle=(*path[path.index(name) :], name), file=_declared(environment, request))
        if name in done:
            if done[name] is not environment:
                raise errors.EnvironmentDuplicated(
                    name=name, first=_declared(done[name], request), second=_declared(environment, request)
                )
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


def _task_environments(
    environments: Iterable[sdk.Environment], target: Target, root: Path
) -> Iterator[sdk.TaskEnvironment]:
    for environment in environments:
        if isinstance(environment, sdk.TaskEnvironment):
            yield environment
        elif not target.skip_apps:
            raise _app_refused(environment, target, root)


def _app_refused(environment: sdk.Environment, target: Target, root: Path) -> errors.AppNotSupported:
    return errors.AppNotSupported(
        target=target.name,
        name=environment.name,
        kind=type(environment).__name__,
        file=_below(sdk.declaring_file(environment), root),
    )


def _refuse_double_imports(request: LoadRequest, recorder: Recorder) -> None:
    names: dict[str, list[str]] = {}
    sources = set(recorder.sources())
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if isinstance(path, str) and path in sources and name != "__main__":
            names.setdefault(os.path.realpath(path), []).append(name)
    for path, found in names.items():
        if len(found) > 1:
            raise errors.ModuleImportedTwice(
                target=request.target.name, file=_shown(path, request), names=tuple(sorted(found))
            )


# --- files


def _includes(environment: sdk.Environment, root: Path) -> tuple[str, ...]:
    """`Environment.include`, anchored at the declaring file, relative to the root."""
    anchor = Path(sdk.declaring_file(environment) or root / "x").parent
    return tuple(os.path.relpath(os.path.normpath(anchor / entry), root) for entry in environment.include)


def _outside(paths: Iterable[str], root: Path, request: LoadRequest) -> Iterator[str]:
    """Warnings: local modules that the bundle cannot hold, since they lie outside the root."""
    for path in sorted(paths):
        if not _below(path, root):
            yield (
                f"{_shown(path, request)}: imported from outside the root, so the bundle will not have it; install it "
                f"in the image, or set `root_dir` in [targets.{request.target.name}] to a folder that holds it"
            )


def _below(path: str, root: Path) -> str:
    """A path relative to the root; empty when it lies outside."""
    try:
        return Path(path).relative_to(root).as_posix()
    except ValueError:
        return ""
