"""Targets x steps as doit tasks.

doit schedules; whether a task is up to date it asks us (`Freshness`), and its database is ours too
(`doit_database`), so that `doit forget` forgets receipts and nothing else is the truth.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from doit.cmd_base import ModuleTaskLoader
from doit.doit_cmd import DoitMain
from doit.exceptions import InvalidDodoFile, TaskFailed

from flyte_build import children, pipeline
from flyte_build.command_line import DEFAULT_PORT, manifest_path, project, steps_of, variables
from flyte_build.errors import ManifestError, StateBusy, StepError, TakenAway
from flyte_build.model import Cause, Fresh, Stale, Target, Verdict
from flyte_build.report import cache_lines, check_line, clean_lines, say, say_at_once, tell, waiting_text
from flyte_build.runs import JsonRun, Run
from flyte_build.state.folder import NAME as STATE_FOLDER
from flyte_build.state.lock import Holder

_T = TypeVar("_T")

DATABASE = "doit.json"
STEPS_AT_A_TIME = 16
"""Threads that run steps. They mostly wait, for a backend or a store; loads are as many at a time as cores."""
_NO_CAPTURE = {"capture": False}
"""doit captures by replacing `sys.stdout`, which threads would do to each other; actions print nothing."""
_DOCS = {
    "discover": "run the target's files and keep what they declare",
    "bundle": "pack the target's code",
    "images": "find or build the image of each environment",
    "upload": "put the bundle into the store",
    "serialize": "bind tasks to version, bundle, images, project and domain",
    "deploy": "bring targets up to date",
}

Task = dict[str, Any]


def configuration() -> dict[str, Any]:
    """`DOIT_CONFIG` of a dodo.py."""
    return {
        "backend": "flyte_build",
        "dep_file": str(manifest_path().parent / STATE_FOLDER / DATABASE),
        "default_tasks": ["deploy"],
        "continue": True,
        "verbosity": 2,
        "num_process": 0 if "serve" in sys.argv[1:] else STEPS_AT_A_TIME,  # a server has Ctrl-C come to its own thread
        "par_type": "thread",
        "reporter": JsonRun if variables().get("output") == "jsonl" else Run,
        "minversion": "0.36.0",
    }


# --- tasks


def step_tasks(step: str) -> Iterator[Task]:
    """One task per target, and the group of them."""
    yield {"name": None, "doc": _DOCS[step]}
    for target in project().manifest.targets.values():
        yield {
            "name": target.name,
            "doc": f"{_DOCS[step]}: {target.path}",
            "actions": [(_run, [target.name, step])],
            "io": _NO_CAPTURE,
            "task_dep": [f"{need}:{target.name}" for need in pipeline.NEEDS[step]],
            "uptodate": [Freshness(target, step)],
        }


def plan_tasks() -> Iterator[Task]:
    """One task per target that says what a deploy would do. It refreshes the local steps, whose results it tells."""
    yield {"name": None, "doc": "say what a deploy would do, and why"}
    for target in project().manifest.targets.values():
        yield {
            "name": target.name,
            "doc": f"say what a deploy would do: {target.path}",
            "actions": [(_plan, [target.name])],
            "io": _NO_CAPTURE,
            "task_dep": [f"bundle:{target.name}"],
        }


def check_tasks() -> Iterator[Task]:
    """One task per target that loads it twice. It needs no step, and leaves nothing."""
    yield {"name": None, "doc": "load each target twice, and say what differs"}
    for target in project().manifest.targets.values():
        yield {
            "name": target.name,
            "doc": f"load twice, and say what differs: {target.path}",
            "actions": [(_check, [target.name])],
            "io": _NO_CAPTURE,
        }


def serve_task() -> Task:
    return {
        "doc": f"serve the embedded control plane (port={DEFAULT_PORT}) for the flyte CLI",
        "actions": [_serve],
        "verbosity": 2,
    }


def cache_task() -> Task:
    return {
        "doc": "say what the shared cache holds and gave; prune=30d removes what no recent deploy used",
        "actions": [_cache],
        "verbosity": 2,
    }


class Freshness:
    """doit's question whether a task is up to date. Shown by `doit info` with the reason."""

    explains = True
    __signature__ = inspect.Signature(
        [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ("task", "values")]
    )
    """Spares doit from working it out for each task."""

    def __init__(self, target: Target, step: str) -> None:
        self._target = target
        self._step = step
        self._reason = ""
        self.cause: Cause | None = None

    def __call__(self, task: Any, values: Any) -> bool:  # noqa: ARG002 doit passes arguments by these names
        try:
            verdict = self._judge()
            if isinstance(verdict, Stale) and Run.started and Run.started.may_differ_now():
                verdict = self._judge()
        except StepError as error:
            self._reason = error.message
            return False
        if isinstance(verdict, Fresh):
            return True
        self._reason, self.cause = verdict.reason, verdict.cause
        return False

    def _judge(self) -> Verdict:
        judge = pipeline.judge if Run.started else pipeline.judge_with_needs
        try:
            return _looked(lambda: judge(project(), self._target, self._step))
        except TakenAway as gone:
            return Stale(reason=gone.message, cause=Cause(kind="missing"))

    def __repr__(self) -> str:
        return self._reason


def _tell_waiting(holder: Holder) -> None:
    say_at_once(waiting_text(holder.description))


def _run(target: str, step: str) -> dict[str, Any] | TaskFailed:
    def run() -> pipeline.Done:
        # With `-n 0` doit runs steps in the main thread, and in any other case in others.
        project().one_by_one = threading.current_thread() is threading.main_thread()
        with project().working_alone(_tell_waiting):  # as it does already, but where `-a` spared the question
            return pipeline.run(project(), project().manifest.targets[target], step)

    return _guarded(run)


def _plan(target: str) -> dict[str, Any] | TaskFailed:
    from flyte_build.planning import plan

    return _guarded(lambda: _looked(lambda: plan(project(), project().manifest.targets[target])))


def _looked(look: Callable[[], _T]) -> _T:
    """What a look at receipts, and at what they name, gives.

    Raises:
        TakenAway: some of it was removed meanwhile.
    """
    try:
        return look()
    except FileNotFoundError as error:
        raise TakenAway(path=project().place(str(error.filename))) from error


def _check(target: str) -> TaskFailed | None:
    from flyte_build.checking import check

    try:
        check(project(), project().manifest.targets[target])
    except StepError as error:
        return TaskFailed(error.message)
    check_line(target, variables().get("output", "text"))
    return None


def tell_why(words: Iterable[str]) -> None:
    """Answer `doit why STEP:TARGET...`.

    Raises:
        InvalidDodoFile: a word is no step of a target; doit shows the message and ends with 3.
    """
    import msgspec

    from flyte_build.why import text, why

    try:
        asked = [step for word in words for step in steps_of(word, project().manifest.targets)]
    except ManifestError as error:
        raise InvalidDodoFile(error.message) from error
    for step, target in dict.fromkeys(asked):
        answers = why(project(), project().manifest.targets[target], step)
        if variables().get("output") == "jsonl":
            for answer in answers:
                tell(msgspec.json.encode({"event": "why", **msgspec.to_builtins(answer)}, order="sorted").decode())
        else:
            tell(text(answers))


def _cache() -> dict[str, Any] | TaskFailed:
    from flyte_build.sharing.usage import usage

    found = _guarded(lambda: usage(project(), variables().get("prune", "")))
    if isinstance(found, dict):
        cache_lines(found, variables().get("output", "text"))
    return found


def _guarded(work: Callable[[], Any]) -> dict[str, Any] | TaskFailed:
    """The work's value as plain data, or its failure as doit's."""
    import msgspec

    try:
        with project().naming_tables():
            data: dict[str, Any] = msgspec.to_builtins(work())
    except StepError as error:
        return TaskFailed(error.message)
    return data


def _serving(endpoint: str) -> None:
    settings = project().manifest.backend
    where = f"--project {settings.project} --domain {settings.domain}"
    say(f"serving at {endpoint}; in another terminal: flyte --endpoint {endpoint} --insecure get task {where}")


def _serve() -> TaskFailed | None:
    from flyte_build.backend.server import serve

    try:
        serve(project().state.backend, port=int(variables().get("port", DEFAULT_PORT)), ready=_serving)
    except StepError as error:
        return TaskFailed(error.message)
    return None


# --- forgetting and cleaning


def step_of(task_id: str) -> tuple[str, str] | None:
    """(target, step) of one of our tasks; None for others'."""
    step, _, target = task_id.partition(":")
    return (target, step) if target and step in pipeline.STEPS else None


def forget(task_id: str) -> None:
    """Forget the receipt of one of our tasks.

    In a run doit asks for this when a task failed or was blocked. A step that failed has forgotten its receipt itself,
    and a blocked one was not touched: its receipt stays true.
    """
    found = step_of(task_id)
    if found is not None and not Run.started:
        with project().working_alone(_tell_waiting):
            pipeline.forget(project(), *found)


@contextlib.contextmanager
def ended_by_failure() -> Iterator[None]:
    """For what is done outside of steps, whose failures doit would show as tracebacks: a message, and the code 1.

    The code is 3 where nothing could start, since another run is at work.

    In a run the steps fail for the same reason, and their messages must be shown to the end; all that is lost then are
    records of doit's own, which hold nothing that cannot be found again.

    Raises:
        SystemExit
    """
    try:
        yield
    except StepError as error:
        if Run.started:
            return
        say(f"ERROR: {error.message}")
        raise SystemExit(3 if isinstance(error, StateBusy) else 1) from error


def forget_all() -> None:
    with project().working_alone(_tell_waiting):
        for target in project().manifest.targets:
            for step in pipeline.STEPS:
                pipeline.forget(project(), target, step)


def clean(tasks: Iterable[str], *, dryrun: bool) -> None:
    """Clean those of the tasks that are ours, and say in a line what that removed."""
    import msgspec

    from flyte_build import cleaning

    steps = [step for step in map(step_of, tasks) if step]
    if steps:
        with ended_by_failure(), project().working_alone(_tell_waiting):
            done = cleaning.clean(project(), steps, dryrun=dryrun)
        clean_lines(msgspec.to_builtins(done), dryrun=dryrun)


# --- `flyte-build`: doit for a repository without a dodo.py


class _Loader(ModuleTaskLoader):  # type: ignore[misc]
    """Tasks of `flyte_build.dodo`, made when the words of the command line are known."""

    def __init__(self) -> None:
        super().__init__({})

    def setup(self, opt_values: Any) -> None:  # noqa: ARG002 doit's signature
        from flyte_build import dodo

        self.namespace = dict(vars(dodo))


class _Main(DoitMain):  # type: ignore[misc]
    BIN_NAME = "flyte-build"


def main() -> int:
    """The `flyte-build` command."""
    status: int = _Main(_Loader()).run(sys.argv[1:])
    return status


def interrupt(_signal: int, _frame: Any) -> None:
    """Ctrl-C. The hook is set now, since the SDK puts its own in place when it is imported."""
    sys.excepthook = interrupted
    raise KeyboardInterrupt


def interrupted(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Ctrl-C ends with a line and the shell's own status, not with a traceback."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    try:
        say("interrupted; what had finished stays done")
        sys.stderr.flush()
    finally:  # also where nobody reads any more
        children.end_all()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
