"""Errors: loading code, and what it declares."""

from __future__ import annotations

from flyte_build.errors.base import StepError, quoted, suggest


class FileRaised(StepError):
    """A file of the user's raised while it was loaded."""

    settings: str
    """Where the key is written that mends it."""
    file: str
    line: int
    error: str
    """Type and text of the exception."""
    traceback: str
    """The user's frames only."""
    output: str = ""
    hints: tuple[str, ...] = ()
    missing: str = ""
    """A module that was not found."""
    missing_in: str = ""
    """The folder above that file, relative to the manifest's, that holds the missing module."""
    unpassed: str = ""
    """A variable that the line read, which is set and not passed to the code."""
    excludable: str = ""
    """The file that `exclude` can leave out."""

    @property
    def message(self) -> str:
        mends = [self._mend(), f"leave out `{self.excludable}` with `exclude`"] if self.excludable else [self._mend()]
        head = f"{self.file}:{self.line}: loading failed: {self.error}; {', or '.join(mends)}"
        return _with_details(head, self.traceback, *self.hints, printed=self.output)

    def _mend(self) -> str:
        where = self.settings
        if self.unpassed:
            variable = f"the environment variable `{self.unpassed}`, which is set here but not passed to the code"
            return f"it reads {variable}: add it to `pass_env` in {where}"
        if self.missing_in:
            return f'set `root_dir = "{self.missing_in}"` in {where}, the folder that `{self.missing}` is in'
        if self.missing:
            return f"install what provides `{self.missing}`, or set `root_dir` in {where} to the folder that it is in"
        return "mend the code"


class FilesRaised(StepError):
    """Several files of one target could not be loaded."""

    place: str
    failures: tuple[str, ...]
    """The message of each."""

    @property
    def message(self) -> str:
        head = f"{self.place}: {len(self.failures)} files cannot be loaded"
        return "\n\n".join((head, *self.failures))


class FileExited(StepError):
    """A file of the user's called `sys.exit` while it was loaded."""

    file: str
    line: int
    code: str
    traceback: str
    output: str = ""

    @property
    def message(self) -> str:
        head = (
            f"{self.file}:{self.line}: loading called `sys.exit({self.code})`; "
            'guard what is meant for the command line with `if __name__ == "__main__":`'
        )
        return _with_details(head, self.traceback, printed=self.output)


class LoadTimedOut(StepError):
    """Loading did not end in time."""

    settings: str
    file: str
    line: int
    seconds: float
    traceback: str
    output: str = ""

    @property
    def message(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        head = (
            f"{where}: loading did not end within {self.seconds:g} s; move the work into a task, "
            f"or raise `load_timeout` in {self.settings}"
        )
        return _with_details(head, self.traceback, printed=self.output)


class LoadCrashed(StepError):
    """The interpreter itself ended while it loaded a file."""

    file: str
    line: int
    how: str
    """Such as `was killed by SIGSEGV`."""
    traceback: str = ""
    output: str = ""

    @property
    def message(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return _with_details(
            f"{where}: the Python interpreter {self.how} while loading; run the file alone with `python` to see why",
            self.traceback,
            printed=self.output,
        )


class NotHermetic(StepError):
    """Code did what `hermetic` forbids while it was loaded."""

    settings: str
    done: tuple[str, ...]
    """Each with the line that did it."""

    @property
    def message(self) -> str:
        return "\n".join(
            f"{line} while loading, which `hermetic = true` in {self.settings} forbids; "
            "move it into a task, or keep its result in a file and read that"
            for line in self.done
        )


_OTHERWISE = "from a copy elsewhere, with another hash seed, and files and folders in another order"


class NotDeterministic(StepError):
    """Code that is loaded again, the files being the same, declares something else."""

    place: str
    differences: tuple[str, ...]
    """Each with its file and line, and the field."""

    @property
    def message(self) -> str:
        head = (
            f"{self.place}: loaded again {_OTHERWISE}, the code declares something else; "
            "sort what has no order, and use nothing of the machine, the time or the place"
        )
        return "\n".join((head, *self.differences))


class LoadsHereOnly(StepError):
    """Code loads where it is, and fails in a copy of the folder."""

    place: str
    reason: str

    @property
    def message(self) -> str:
        return (
            f"{self.place}: loads here, and not {_OTHERWISE}; "
            f"let it depend on files of the repository alone\n{self.reason}"
        )


class CopyNotMade(StepError):
    """The folder cannot be copied, to be loaded in another place."""

    path: str
    """What was to be copied."""
    folder: str
    """Where to; empty: there is no folder for temporary files."""
    reason: str

    @property
    def message(self) -> str:
        where = self.folder or "a folder for temporary files, since there is none"
        mend = "free some space, set TMPDIR to another folder, or make the file readable"
        return f"{self.path}: cannot be copied to {where}: {self.reason}; {mend}"


class LoadsElsewhereOnly(StepError):
    """Code fails where it is, and loads in a copy of the folder."""

    place: str
    reason: str

    @property
    def message(self) -> str:
        return f"{self.place}: loads {_OTHERWISE}, and not here; let it not depend on the order of files\n{self.reason}"


class ModuleImportedTwice(StepError):
    """One file was imported under two module names."""

    settings: str
    file: str
    names: tuple[str, ...]
    root_dir: str = ""
    """The folder, relative to the manifest's, under which the shorter name is the right one."""

    @property
    def message(self) -> str:
        key = f'`root_dir = "{self.root_dir}"`' if self.root_dir else "`root_dir`"
        start = ", the" if self.root_dir else " to the"
        return (
            f"{self.file}: imported under two module names, {quoted(self.names)}; import it by one name everywhere, "
            f"or set {key} in {self.settings}{start} folder that your imports start from"
        )


class ModuleNameTaken(StepError):
    """A file is named like a module that is imported already."""

    settings: str
    file: str
    name: str

    @property
    def message(self) -> str:
        return (
            f"{self.file}: another module named `{self.name}` is imported in its place; rename the file, "
            f"or set `root_dir` in {self.settings} to a folder above it"
        )


class VariableUnknown(StepError):
    """`environment` names a variable that the file does not have."""

    place: str
    file: str
    name: str
    known: tuple[str, ...]

    @property
    def message(self) -> str:
        mend = suggest(self.name, self.known) if self.known else "declare one there with `flyte.TaskEnvironment`"
        return f"{self.place}: {self.file} has no environment `{self.name}`; {mend}"


class NoEnvironments(StepError):
    """A target's files declare nothing to deploy."""

    settings: str
    path: str

    @property
    def message(self) -> str:
        return (
            f"{self.path}: declares no flyte.TaskEnvironment; declare one, "
            f"or point `path` in {self.settings} at the file that does"
        )


class PathLeavesRoot(StepError):
    """`path` is a link, or below one, that leads out of the root."""

    place: str
    path: str
    leads_to: str
    root_dir: str

    @property
    def message(self) -> str:
        return (
            f"{self.place}: `{self.path}` leads to `{self.leads_to}`, which is outside the root "
            f"`{self.root_dir}`; put the file itself there, or set `root_dir` to a folder that holds both"
        )


class EnvironmentDuplicated(StepError):
    """Two different environments have one name."""

    name: str
    first: str
    second: str

    @property
    def message(self) -> str:
        mend = "rename one of them, names are unique in a deployment"
        if self.first == self.second:
            return f"{self.first}: two environments are named `{self.name}`; {mend}"
        return f"{self.second}: environment `{self.name}` was already declared in {self.first}; {mend}"


class EnvironmentCycle(StepError):
    """`depends_on` goes round in a circle."""

    cycle: tuple[str, ...]
    file: str

    @property
    def message(self) -> str:
        return f"{self.file}: `depends_on` is circular: {' -> '.join(self.cycle)}; remove one of these dependencies"


class AppNotSupported(StepError):
    """An environment that is not made of tasks was selected."""

    settings: str
    name: str
    kind: str
    file: str

    @property
    def message(self) -> str:
        return (
            f"{self.file}: environment `{self.name}` is of type {self.kind}, and only a TaskEnvironment can be "
            f"deployed; set `skip_apps = true` in {self.settings} to deploy the others"
        )


class TaskNotSerialized(StepError):
    """The SDK cannot serialize a task."""

    task: str
    file: str
    line: int
    reason: str

    @property
    def message(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: task `{self.task}` cannot be serialized: {self.reason}; change its declaration"


_MOST_PRINTED = 10_000
"""Characters."""


def _with_details(head: str, *details: str, printed: str) -> str:
    """A message, then what belongs to it, then what the user's code printed, or the end of it."""
    parts = [head, *(detail.rstrip() for detail in details if detail)]
    printed = printed.rstrip()
    if len(printed) > _MOST_PRINTED:
        parts.append(f"it printed {len(printed):,} characters, at the end:\n{printed[-_MOST_PRINTED:]}")
    elif printed:
        parts.append(f"it printed:\n{printed}")
    return "\n".join(parts)
