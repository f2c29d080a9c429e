"""Errors: the words of the command line."""

from __future__ import annotations

from flyte_build.errors.base import ManifestError, quoted, suggest


class CommandLineVariableUnknown(ManifestError):
    """A `name=value` word on the command line that nothing reads."""

    name: str
    known: tuple[str, ...]

    @property
    def message(self) -> str:
        return f"command line: no variable `{self.name}`; {suggest(self.name, self.known)}"


class CommandLineVariableEmpty(ManifestError):
    name: str

    @property
    def message(self) -> str:
        return f"command line: `{self.name}=` has no value; give one, or leave it out"


class UnknownTarget(ManifestError):
    """A word of the command line, such as `deploy:fraud`, asks for a target that the manifest does not have."""

    word: str
    known: tuple[str, ...]
    """The targets that there are."""

    @property
    def message(self) -> str:
        name = self.word.partition(":")[2]
        problem = f"no target matches `{name}`" if "*" in name else f"no target `{name}`"
        return f"command line: {self.word}: {problem}; {suggest(name, self.known)}"


class StepBesidesPlan(ManifestError):
    """`doit plan deploy:fraud` would deploy: words of doit are tasks, and all of them are done."""

    command: str
    word: str

    @property
    def message(self) -> str:
        _, colon, target = self.word.partition(":")
        return (
            f"command line: `doit {self.command} {self.word}` would run `{self.word}` too; "
            f"write `doit {self.command}{colon}{target}`"
        )


class VariableOfAnotherTask(ManifestError):
    """`doit prune=30d` without `cache` would deploy, and prune nothing."""

    name: str
    value: str
    task: str

    @property
    def message(self) -> str:
        return (
            f"command line: `{self.name}` means something to `{self.task}` alone; "
            f"write `doit {self.task} {self.name}={self.value}`, or leave it out"
        )


class NotAStep(ManifestError):
    """`doit why` was asked about a task that is no step of a target."""

    word: str
    steps: tuple[str, ...]
    targets: tuple[str, ...]

    @property
    def message(self) -> str:
        problem = f"command line: why {self.word}: is no step of a target"
        meant = [target for target in self.targets if self.word in _names(target)]
        if meant:
            return f"{problem}; write `doit why deploy:{meant[0]}`"
        return f"{problem}; ask about one of {quoted(self.steps)}"


class UnknownTask(ManifestError):
    """A word of the command line names no task."""

    word: str
    tasks: tuple[str, ...]
    targets: tuple[str, ...]
    """Of the manifest: whoever names one wants a step of it."""
    step: str = "deploy"
    """The step to suggest."""

    @property
    def message(self) -> str:
        return f"command line: {self.word}: no such task; {self._mend()}"

    def _mend(self) -> str:
        import difflib

        of_targets = {name: f"{self.step}:{target}" for target in self.targets for name in _names(target)}
        meant = of_targets | {task: task for task in self.tasks}
        close = difflib.get_close_matches(self.word, meant, n=1)
        return f"did you mean `{meant[close[0]]}`?" if close else suggest(self.word, self.tasks)


class TaskNotNamed(ManifestError):
    """A command of doit works on one task, or on some, and was given none, or several."""

    command: str
    wanted: str
    example: str

    @property
    def message(self) -> str:
        return f"command line: {self.command}: name {self.wanted}, such as `doit {self.command} {self.example}`"


class NotForTask(ManifestError):
    """A command of doit can do nothing for the tasks of flyte_build. `reason` says why, `mend` what to do instead."""

    command: str
    task: str
    reason: str
    mend: str

    @property
    def message(self) -> str:
        return f"command line: {self.command} {self.task}: {self.reason}; {self.mend}"


def _names(target: str) -> tuple[str, str]:
    """What people call a target: by its name, or the last part of that."""
    return target, target.rpartition("/")[2]
