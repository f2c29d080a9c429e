"""Every failure that a user can meet, worded in one place.

An error is data: keyword-only fields, and a `message` that says where, what, and what to do. Lower case, values in
backticks, no full stop. Families say whose fault it is:

- `ManifestError`: deploy.toml or the command line is wrong; nothing was started (exit code 3).
- `StepError`: a step failed, because of the project or of what the step called (exit code 1).

Anything else that escapes is a bug of ours (exit code 2, with a traceback).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**_options: Any) -> Callable[[Any], Any]:
        """As in `typing` from Python 3.11 on."""
        return lambda kind: kind


@dataclass_transform(kw_only_default=True, eq_default=False)
class BuildError(Exception):
    """Base of all: a dataclass to the type checker. A hundred real ones would cost a no-op 30 ms at import."""

    def __init__(self, **fields: object) -> None:
        kind = type(self)
        names = {name for each in kind.__mro__ for name in getattr(each, "__annotations__", ())}
        missing = {name for name in names if not hasattr(kind, name)} - fields.keys()
        if missing or fields.keys() - names:
            raise TypeError(f"{kind.__name__}: missing {sorted(missing)}, unknown {sorted(fields.keys() - names)}")
        super().__init__()
        vars(self).update(fields)

    @property
    def message(self) -> str:
        raise TypeError(f"{type(self).__name__} has no wording")

    def __str__(self) -> str:
        return self.message


class ManifestError(BuildError):
    """deploy.toml or the command line is wrong."""


class StepError(BuildError):
    """A step could not do its work."""


def suggest(name: str, known: Iterable[str]) -> str:
    """`did you mean ...` when something close is known, else the list of what is known."""
    import difflib

    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean `{close[0]}`?"
    return f"known: {quoted(known)}" if known else "there are none"


def quoted(names: Iterable[str]) -> str:
    """`a`, `b` and `c`."""
    ticked = [f"`{name}`" for name in names]
    if len(ticked) < 2:
        return "".join(ticked)
    return f"{', '.join(ticked[:-1])} and {ticked[-1]}"


def _perhaps(name: str, known: Iterable[str]) -> str:
    """A suggestion to put after a mend; nothing when nothing is known."""
    return f" ({suggest(name, known)})" if known else ""


PYTHON = "python:"
"""How the name of a target of the Python API begins; a target of a manifest has no colon."""


def settings_of(target: str) -> str:
    """Where a target's settings are written."""
    return "flyte_build.deploy()" if target.startswith(PYTHON) else f"[targets.{target}]"


# --- manifest and command line -------------------------------------------------------------------------------------


class Place(NamedTuple):
    """Where something is written. `line` counts from 1; 0: it has no line. `key` is as `[targets.fraud] copy_style`."""

    file: str
    line: int
    key: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.key}" if self.key else where


class ManifestProblems(ManifestError):
    """Everything that is wrong with a manifest, in the order of the file."""

    problems: tuple[ManifestError, ...]

    @property
    def message(self) -> str:
        return "\n".join(problem.message for problem in self.problems)


class ManifestMissing(ManifestError):
    file: str

    @property
    def message(self) -> str:
        example = '[targets.hello]\npath = "hello.py"\nall = true'
        return f"{self.file}: no such file; write one, for example:\n\n{example}"


class ManifestUnreadable(ManifestError):
    file: str
    reason: str

    @property
    def message(self) -> str:
        return f"{self.file}: cannot be read: {self.reason}; make it a readable UTF-8 file"


class ManifestSyntax(ManifestError):
    file: str
    line: int
    column: int
    reason: str

    @property
    def message(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: not valid TOML: {self.reason}; mend the syntax there"


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


class UnknownProfile(ManifestError):
    file: str
    name: str
    known: tuple[str, ...]

    @property
    def message(self) -> str:
        return f"{self.file}: no profile `{self.name}`; {suggest(self.name, self.known)}"


class ManifestProblem(ManifestError):
    """One thing that is wrong at one place; `problem` says what, and what to do."""

    place: Place

    @property
    def message(self) -> str:
        return f"{self.place}: {self.problem}"

    @property
    def problem(self) -> str:
        raise TypeError(f"{type(self).__name__} has no wording")


class UnknownKey(ManifestProblem):
    name: str
    known: tuple[str, ...]
    table: bool = False

    @property
    def problem(self) -> str:
        return f"no such {'table' if self.table else 'key'}; {suggest(self.name, self.known)}"


class WrongValue(ManifestProblem):
    """A value of the wrong type or out of range. `found` and `example` are TOML."""

    expected: str
    found: str
    example: str

    @property
    def problem(self) -> str:
        return f"expected {self.expected}, got `{self.found}`; write for example `{self.example}`"


class UnknownChoice(ManifestProblem):
    value: str
    choices: tuple[str, ...]

    @property
    def problem(self) -> str:
        return f"`{self.value}` is not a choice; {suggest(self.value, self.choices)}"


class MissingKey(ManifestProblem):
    name: str
    example: str

    @property
    def problem(self) -> str:
        return f"`{self.name}` is missing; write for example `{self.example}`"


class NoTargets(ManifestProblem):
    @property
    def problem(self) -> str:
        return "nothing to deploy; write a table `[targets.NAME]` with `path` and `all = true`"


class BadTargetName(ManifestProblem):
    name: str

    @property
    def problem(self) -> str:
        rule = "no `:`, `=`, `*` or empty part, and no `-` or `_` at its start"
        return f"`{self.name}` cannot name a target; take a name with {rule}"


class DuplicateTarget(ManifestProblem):
    name: str
    first: Place

    @property
    def problem(self) -> str:
        other = f"{self.first.key} on line {self.first.line}"
        return f"gives a target `{self.name}`, and so does {other}; rename one, or narrow a `for_each`"


class NoSelection(ManifestProblem):
    @property
    def problem(self) -> str:
        return 'selects no environment; write one of `environment = "NAME"`, `all = true` and `recursive = true`'


class SeveralSelections(ManifestProblem):
    names: tuple[str, ...]

    @property
    def problem(self) -> str:
        return f"{quoted(self.names)} exclude each other; keep one of them"


class BadEnvironmentName(ManifestProblem):
    name: str

    @property
    def problem(self) -> str:
        return f"`{self.name}` is not the name of a variable; write the name that the environment is assigned to"


class VersionRequired(ManifestProblem):
    @property
    def problem(self) -> str:
        mend = "write a `version` without `{content}`, or give `version=` on the command line"
        return f'`copy_style = "none"` bundles no code that could give a version; {mend}'


class UnknownPlaceholder(ManifestProblem):
    """`name` is what stands in the text, braces included."""

    name: str
    known: tuple[str, ...]

    @property
    def problem(self) -> str:
        return f"`{self.name}` is not a placeholder; {suggest(self.name, self.known)}"


class PlaceholderWithoutForEach(ManifestProblem):
    name: str

    @property
    def problem(self) -> str:
        return f'`{self.name}` means something only beside `for_each`; add `for_each = "FOLDERS/*"`, or write it out'


class SamePathForAll(ManifestProblem):
    """A `for_each` whose targets would all be the same."""

    path: str

    @property
    def problem(self) -> str:
        return f"`{self.path}` is the same for every folder; put `{{dir}}` or `{{name}}` into it"


class NoFolders(ManifestProblem):
    pattern: str

    @property
    def problem(self) -> str:
        return f"no folder matches `{self.pattern}`; write a pattern relative to the manifest, such as `services/*`"


class NoFolderHasPath(ManifestProblem):
    pattern: str
    path: str
    folders: int

    @property
    def problem(self) -> str:
        count = f"{self.folders} folder{'s match' if self.folders > 1 else ' matches'} `{self.pattern}`"
        return f"{count}, but `{self.path}` is in none of them; correct one of the two"


class PathMissing(ManifestProblem):
    path: str

    @property
    def problem(self) -> str:
        return f"no file or folder `{self.path}`; write a path relative to the manifest"


class OutsideManifestFolder(ManifestProblem):
    path: str

    @property
    def problem(self) -> str:
        return f"`{self.path}` is outside the manifest's folder; write a path inside, or move the manifest up"


class RootNotAFolder(ManifestProblem):
    root_dir: str

    @property
    def problem(self) -> str:
        return f"`{self.root_dir}` is not a folder; write the folder that imports start from"


class PathOutsideRoot(ManifestProblem):
    path: str
    root_dir: str

    @property
    def problem(self) -> str:
        return f"`{self.path}` is outside the root `{self.root_dir}`; set `root_dir` to a folder that holds it"


class RecursiveNeedsFolder(ManifestProblem):
    path: str

    @property
    def problem(self) -> str:
        return f"`{self.path}` is a file, and `recursive` takes a folder; write its folder, or `all = true`"


class EnvironmentNeedsFile(ManifestProblem):
    path: str

    @property
    def problem(self) -> str:
        return f"`{self.path}` is a folder, and `environment` takes a file; write the file, or `all = true`"


class NotPython(ManifestProblem):
    path: str

    @property
    def problem(self) -> str:
        return f"`{self.path}` is not a Python file; write a file that ends in `.py`, or a folder"


class BadStoreUrl(ManifestProblem):
    url: str

    @property
    def problem(self) -> str:
        forms = quoted(("backend", "s3://BUCKET/PREFIX", "gs://BUCKET/PREFIX", "abfs://CONTAINER/PREFIX", "./FOLDER"))
        return f"`{self.url}` is not a store; write one of {forms}"


class BadEndpoint(ManifestProblem):
    endpoint: str

    @property
    def problem(self) -> str:
        return f"`{self.endpoint}` is not an endpoint; write `dns:///HOST`, `dns:///HOST:PORT` or `https://HOST`"


class FlyteConfigMissing(ManifestProblem):
    """`place` is what named the file."""

    file: str

    @property
    def problem(self) -> str:
        return f"no Flyte config file `{self.file}`; correct the path, or make it with `flyte create config`"


class FlyteConfigInvalid(ManifestProblem):
    """`place` is the config file and its key, or an environment variable. Holds no value: it may be a secret."""

    reason: str
    mend: str

    @property
    def problem(self) -> str:
        return f"{self.reason}; {self.mend}"


# --- the graph -----------------------------------------------------------------------------------------------------


class StepNotDone(StepError):
    """A step was asked for alone, and one that it needs has not been done."""

    step: str
    need: str
    target: str

    @property
    def message(self) -> str:
        return (
            f"{self.step}:{self.target}: needs `{self.need}:{self.target}`, which was not done; "
            f"run `doit {self.step}:{self.target}` without `-s`"
        )


# --- the Python API ------------------------------------------------------------------------------------------------


class NotAnEnvironment(StepError):
    """`deploy()` was given something else."""

    given: str
    """As Python shows it."""

    @property
    def message(self) -> str:
        return f"flyte_build.deploy(): {self.given} is no environment; pass objects of flyte.TaskEnvironment"


class NothingToDeploy(StepError):
    """`deploy()` was called without an environment."""

    @property
    def message(self) -> str:
        return "flyte_build.deploy(): no environment was given; pass the environments to deploy"


class EnvironmentWithoutFile(StepError):
    """An environment was made at a prompt or from text, so there is no file to deploy."""

    name: str

    @property
    def message(self) -> str:
        return f"flyte_build.deploy(): environment `{self.name}` is declared in no file; put it into a module"


class FileOutsideFolder(StepError):
    """What is to be deployed lies outside the folder that deployments start from."""

    path: str
    folder: str

    @property
    def message(self) -> str:
        return (
            f"{self.path}: is not below {self.folder}; run from the repository's folder, "
            "or name its deploy.toml with `manifest=`"
        )


class EnvironmentNotReproduced(StepError):
    """An environment that the Python API was given is not there when its file is loaded by itself."""

    name: str
    file: str
    known: tuple[str, ...]

    @property
    def message(self) -> str:
        return (
            f"{self.file}: importing it does not give environment `{self.name}`; declare or import it at module level, "
            f'outside of `if __name__ == "__main__":`{_perhaps(self.name, self.known)}'
        )


# --- discovery -----------------------------------------------------------------------------------------------------


class FileRaised(StepError):
    """A file of the user's raised while it was loaded."""

    target: str
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
    excludable: str = ""
    """The file that `exclude` can leave out."""

    @property
    def message(self) -> str:
        mends = [self._mend(), f"leave out `{self.excludable}` with `exclude`"] if self.excludable else [self._mend()]
        head = f"{self.file}:{self.line}: loading failed: {self.error}; {', or '.join(mends)}"
        return _with_details(head, self.traceback, *self.hints, printed=self.output)

    def _mend(self) -> str:
        where = settings_of(self.target)
        if self.missing_in:
            return f'set `root_dir = "{self.missing_in}"` in {where}, the folder that `{self.missing}` is in'
        if self.missing:
            return f"install what provides `{self.missing}`, or set `root_dir` in {where} to the folder that it is in"
        return "mend the code"


class FilesRaised(StepError):
    """Several files of one target could not be loaded."""

    target: str
    failures: tuple[str, ...]
    """The message of each."""

    @property
    def message(self) -> str:
        head = f"{settings_of(self.target)}: {len(self.failures)} files cannot be loaded"
        return "\n\n".join((head, *self.failures))


class FileExited(StepError):
    """A file of the user's called `sys.exit` while it was loaded."""

    target: str
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

    target: str
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
            f"or raise `load_timeout` in {settings_of(self.target)}"
        )
        return _with_details(head, self.traceback, printed=self.output)


class LoadCrashed(StepError):
    """The interpreter itself ended while it loaded a file."""

    target: str
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


class ModuleImportedTwice(StepError):
    """One file was imported under two module names."""

    target: str
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
            f"or set {key} in {settings_of(self.target)}{start} folder that your imports start from"
        )


class ModuleNameTaken(StepError):
    """A file is named like a module that is imported already."""

    target: str
    file: str
    name: str

    @property
    def message(self) -> str:
        return (
            f"{self.file}: another module named `{self.name}` is imported in its place; rename the file, "
            f"or set `root_dir` in {settings_of(self.target)} to a folder above it"
        )


class VariableUnknown(StepError):
    """`environment` names a variable that the file does not have."""

    target: str
    file: str
    name: str
    known: tuple[str, ...]

    @property
    def message(self) -> str:
        mend = suggest(self.name, self.known) if self.known else "declare one there with `flyte.TaskEnvironment`"
        return f"[targets.{self.target}] environment: {self.file} has no environment `{self.name}`; {mend}"


class NoEnvironments(StepError):
    """A target's files declare nothing to deploy."""

    target: str
    path: str

    @property
    def message(self) -> str:
        return (
            f"{self.path}: declares no flyte.TaskEnvironment; declare one, "
            f"or point `path` in {settings_of(self.target)} at the file that does"
        )


class PathLeavesRoot(StepError):
    """`path` is a link, or below one, that leads out of the root."""

    target: str
    path: str
    leads_to: str
    root_dir: str

    @property
    def message(self) -> str:
        return (
            f"{settings_of(self.target)} path: `{self.path}` leads to `{self.leads_to}`, which is outside the root "
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

    target: str
    name: str
    kind: str
    file: str

    @property
    def message(self) -> str:
        return (
            f"{self.file}: environment `{self.name}` is of type {self.kind}, and only a TaskEnvironment can be "
            f"deployed; set `skip_apps = true` in {settings_of(self.target)} to deploy the others"
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


# --- bundles -------------------------------------------------------------------------------------------------------


class IncludeMatchesNothing(StepError):
    """`left_out`: what it would match but for the ignore rules, `exclude`, and the rule about secrets."""

    where: str
    pattern: str
    left_out: tuple[str, ...]

    @property
    def message(self) -> str:
        if self.left_out:
            problem = f"matches only files that are left out, such as {quoted(self.left_out[:3])}"
            return f"{self.where}: include `{self.pattern}` {problem}; name each file in full to bundle it all the same"
        return f"{self.where}: include `{self.pattern}` matches no file; correct it, or take it out"


class IncludeOutsideRoot(StepError):
    where: str
    pattern: str
    root: str

    @property
    def message(self) -> str:
        problem = f"lies outside the root `{self.root}`, and a bundle holds only what is inside"
        return f"{self.where}: include `{self.pattern}` {problem}; set `root_dir` to a folder that holds both"


class BundlePathError(StepError):
    """A file that cannot be bundled. `path` is relative to the root; `problem` says what is wrong, and what to do."""

    path: str

    @property
    def message(self) -> str:
        return f"{self.path}: {self.problem}"

    @property
    def problem(self) -> str:
        raise TypeError(f"{type(self).__name__} has no wording")


class SymlinkLeavesRoot(BundlePathError):
    leads_to: str

    @property
    def problem(self) -> str:
        mend = "copy what it leads to into the root, or leave it out with `exclude`"
        return f"symbolic link leaves the root, for `{self.leads_to}`; {mend}"


class SymlinkBroken(BundlePathError):
    leads_to: str

    @property
    def problem(self) -> str:
        return f"symbolic link to `{self.leads_to}`, which does not exist; mend it, or leave it out with `exclude`"


class SymlinkLoops(BundlePathError):
    leads_to: str

    @property
    def problem(self) -> str:
        return f"symbolic link to `{self.leads_to}` goes round in a loop; remove it, or leave it out with `exclude`"


class NotARegularFile(BundlePathError):
    kind: str

    @property
    def problem(self) -> str:
        return f"a {self.kind}, which cannot be bundled; remove it, or leave it out with `exclude`"


class FileUnreadable(BundlePathError):
    reason: str

    @property
    def problem(self) -> str:
        return f"cannot be read: {self.reason}; make it readable, or leave it out with `exclude`"


class FileVanished(BundlePathError):
    @property
    def problem(self) -> str:
        return "was there a moment ago, and is gone; deploy again, or leave it out with `exclude` if it comes and goes"


class FileKeepsChanging(BundlePathError):
    attempts: int

    @property
    def problem(self) -> str:
        mend = "stop what writes to it, or leave it out with `exclude`"
        return f"changed each of the {self.attempts} times that it was read; {mend}"


class NameNotUtf8(BundlePathError):
    """`path` shows the bytes that are not UTF-8 as `\\xNN`."""

    @property
    def problem(self) -> str:
        return "name is not UTF-8; rename it, or leave out the folder that it is in with `exclude`"


class BundleTooLarge(StepError):
    """Sizes in bytes, before compression. `largest` are paths with their sizes."""

    target: str
    size: int
    limit: int
    largest: tuple[tuple[str, int], ...]

    @property
    def message(self) -> str:
        head = f"targets.{self.target}: bundle of {megabytes(self.size)} is above the {megabytes(self.limit)} allowed"
        mend = "leave files out with `exclude` or .flyteignore, or raise `max_bundle_size`"
        rows = "".join(f"\n{megabytes(size):>12}  {path}" for path, size in self.largest)
        return f"{head}; {mend}; its largest files:{rows}"


def megabytes(size: int) -> str:
    """`12.3 MB`, of a million bytes each."""
    return f"{size / 1_000_000:,.1f} MB"


# --- stores --------------------------------------------------------------------------------------------------------


class StoreUrlInvalid(StepError):
    """`url` of `[store]` names no place that a bundle can be put."""

    url: str
    problem: str

    @property
    def message(self) -> str:
        known = ["s3://bucket/prefix", "gs://bucket/prefix", "abfs://container/prefix", "file:///folder", "backend"]
        return f"[store] url: `{self.url}` {self.problem}; write one of {quoted(known)}"


class StoreEndpointInvalid(StepError):
    endpoint_url: str

    @property
    def message(self) -> str:
        return f"[store] endpoint_url: `{self.endpoint_url}` is no address of a server; write `https://host:port`"


class StoreDiskFull(StepError):
    uri: str

    @property
    def message(self) -> str:
        return f"{self.uri}: the disk is full; free space there, or set `url` of [store] to another place"


class StoreFolderNotWritable(StepError):
    """`reason` is the operating system's."""

    folder: str
    reason: str

    @property
    def message(self) -> str:
        return (
            f"{self.folder}: bundles cannot be written there: {self.reason}; "
            "let this user write to it, or set `url` of [store] to another place"
        )


class StoreFolderIsAFile(StepError):
    folder: str

    @property
    def message(self) -> str:
        return f"{self.folder}: the store's folder is, or is inside, a file; move it, or correct `url` of [store]"


class StoreCredentialsMissing(StepError):
    """`mend` says how credentials are given to this kind of store."""

    uri: str
    reason: str
    mend: str

    @property
    def message(self) -> str:
        return f"{self.uri}: no credentials for the store: {self.reason}; {self.mend}"


class StoreAccessDenied(StepError):
    """`answer` is the store's status, code and explanation, without anything secret."""

    uri: str
    answer: str

    @property
    def message(self) -> str:
        mend = "give the credentials in use the right to read and write there"
        return f"{self.uri}: access denied: {self.answer}; {mend}"


class StoreBucketMissing(StepError):
    uri: str
    bucket: str

    @property
    def message(self) -> str:
        return f"{self.uri}: there is no bucket `{self.bucket}`; create it, or correct `url` of [store]"


class StoreRefused(StepError):
    """The store said no for a reason that trying again does not change."""

    uri: str
    answer: str

    @property
    def message(self) -> str:
        mend = "check `url`, `endpoint_url` and `region` of [store]"
        return f"{self.uri}: the store refused the bundle: {self.answer}; {mend}"


class StoreUnreachable(StepError):
    """No answer came, on any attempt."""

    uri: str
    endpoint: str
    reason: str
    attempts: int

    @property
    def message(self) -> str:
        return (
            f"{self.uri}: no answer from `{self.endpoint}` in {self.attempts} attempts: {self.reason}; "
            "check the network and the address"
        )


class StoreFailing(StepError):
    """The store answered with a failure of its own, on every attempt."""

    uri: str
    answer: str
    attempts: int

    @property
    def message(self) -> str:
        return f"{self.uri}: the store failed {self.attempts} times: {self.answer}; try again later"


class UploadUrlExpired(StepError):
    """The backend's signed URL was out of date, and so was the fresh one."""

    uri: str

    @property
    def message(self) -> str:
        return (
            f"{self.uri}: the signed URL of the backend expired before the upload was done, twice; "
            "check the clocks of the backend and of the store, or name a store with `url` of [store]"
        )


class UploadNameTaken(StepError):
    """The backend knows the name of the archive with another MD5."""

    filename: str

    @property
    def message(self) -> str:
        return (
            f"{self.filename}: the backend holds other bytes under this name, so they were changed after an upload; "
            "remove that object from the backend's store and deploy again"
        )


# --- images --------------------------------------------------------------------------------------------------------


class ImageNeedsBuild(StepError):
    """An environment's image has to be built, which is not done yet."""

    environment: str
    file: str
    reason: str

    @property
    def message(self) -> str:
        return (
            f"{self.file}: the image of environment `{self.environment}` has to be built ({self.reason}), which "
            "flyte_build cannot do yet; build it with `flyte build`, then name it by its URI or with `[images.refs]`"
        )


class ImageReferenceUnknown(StepError):
    """`Image.from_ref_name` names what the manifest does not."""

    environment: str
    file: str
    reference: str
    known: tuple[str, ...]

    @property
    def message(self) -> str:
        return (
            f"{self.file}: environment `{self.environment}` takes its image from the reference `{self.reference}`, "
            f'which is not in [images.refs]; add `{self.reference} = "URI"` there'
            f"{_perhaps(self.reference, self.known)}"
        )


# --- backends ------------------------------------------------------------------------------------------------------


class BackendUnreachable(StepError):
    """No answer came from the endpoint, after a few attempts."""

    endpoint: str
    reason: str

    @property
    def message(self) -> str:
        mend = "check `endpoint` and `insecure` in `[flyte]`, and the network"
        return f"{self.endpoint}: no answer from a Flyte control plane: {self.reason}; {mend}"


class NotLoggedIn(StepError):
    """The control plane wants credentials, or others than it got."""

    endpoint: str
    reason: str

    @property
    def message(self) -> str:
        mend = "name a Flyte configuration file with valid credentials as `config` in `[flyte]`, or set `FLYTE_API_KEY`"
        return f"{self.endpoint}: login failed: {self.reason}; {mend}"


class NotPermitted(StepError):
    """Whoever is logged in may not do this. `action` completes "may not ..."; `place` is project/domain."""

    endpoint: str
    action: str
    place: str
    reason: str

    @property
    def message(self) -> str:
        mend = "ask for the right to deploy there, or change `project` and `domain` in `[flyte]`"
        return f"{self.endpoint}: may not {self.action} in `{self.place}`: {self.reason}; {mend}"


class RequestInvalid(StepError):
    """The control plane finds something wrong with what it was sent."""

    endpoint: str
    action: str
    place: str
    reason: str

    @property
    def message(self) -> str:
        return f"{self.endpoint}: cannot {self.action} in `{self.place}`: invalid: {self.reason}; change what it names"


class ResourceNotFound(StepError):
    """The control plane does not have something that the request names, such as the project."""

    endpoint: str
    action: str
    place: str
    reason: str

    @property
    def message(self) -> str:
        mend = "check `project` and `domain` in `[flyte]`; `flyte get project` lists what there is"
        return f"{self.endpoint}: cannot {self.action} in `{self.place}`: not found: {self.reason}; {mend}"


class BackendFailed(StepError):
    """The control plane answered with an error of its own, also after a few attempts where that helps."""

    endpoint: str
    action: str
    place: str
    code: str
    reason: str

    @property
    def message(self) -> str:
        mend = "what is registered stays registered, so run it again"
        return f"{self.endpoint}: cannot {self.action} in `{self.place}`: {self.code}: {self.reason}; {mend}"


class CredentialsUnusable(StepError):
    """A configuration file or an API key cannot be used. `source` is the file or the variable."""

    source: str
    reason: str
    mend: str

    @property
    def message(self) -> str:
        return f"{self.source}: {self.reason}; {self.mend}"


class EmbeddedBackendUnusable(StepError):
    """The embedded control plane's folder or file cannot be read or written."""

    path: str
    reason: str

    @property
    def message(self) -> str:
        mend = "make the folder writable or remove it; `doit deploy` makes a new one"
        return f"{self.path}: the embedded control plane cannot be used: {self.reason}; {mend}"


class UploadsNotServed(StepError):
    """A signed URL was asked of the embedded control plane in process."""

    path: str

    @property
    def message(self) -> str:
        mend = "set `url` in `[store]` to a `file://` folder, or `endpoint` in `[flyte]` to that of `doit serve`"
        return f"{self.path}: the embedded control plane takes uploads only when it is served; {mend}"


class PortInUse(StepError):
    """Another program listens where the control plane should."""

    host: str
    port: int

    @property
    def message(self) -> str:
        mend = "stop the program that listens there, or choose another port: `doit serve port=NUMBER`"
        return f"{self.host}:{self.port}: the port is in use; {mend}"


class CannotListen(StepError):
    """The system does not let the control plane listen at an address."""

    host: str
    port: int
    reason: str

    @property
    def message(self) -> str:
        return f"{self.host}:{self.port}: cannot listen: {self.reason}; choose another port: `doit serve port=NUMBER`"


# --- versions ------------------------------------------------------------------------------------------------------


class VersionWithoutGit(StepError):
    """A version template asks git, and git has no answer."""

    target: str
    placeholder: str
    reason: str

    @property
    def message(self) -> str:
        return (
            f"{settings_of(self.target)} version: `{{{self.placeholder}}}` has no value: {self.reason}; "
            "commit or tag the checkout, or use `{content}`"
        )


class VersionVariableUnset(StepError):
    """A version template names an environment variable that is not set."""

    target: str
    name: str

    @property
    def message(self) -> str:
        return (
            f"{settings_of(self.target)} version: the environment variable `{self.name}` is not set; "
            "set it, or use `{content}`"
        )


class VersionTooLong(StepError):
    """A version is longer than Flyte takes."""

    target: str
    version: str
    limit: int

    @property
    def message(self) -> str:
        return (
            f"{settings_of(self.target)} version: `{self.version}` has {len(self.version)} characters, and Flyte takes "
            f"{self.limit}; write a shorter one"
        )


class BundleEmpty(StepError):
    """Tasks need a code bundle, and every file was left out of it."""

    target: str

    @property
    def message(self) -> str:
        return (
            f"{settings_of(self.target)}: the bundle would be empty, since `exclude` leaves out every file that was "
            'loaded; narrow `exclude`, or set `copy_style = "none"` for code that is in the image'
        )


class VersionTaken(StepError):
    """A version exists already, with other content."""

    task: str
    version: str
    where: str
    differences: tuple[str, ...]
    others: tuple[str, ...] = ()
    """Targets of the same manifest that registered it."""

    @property
    def message(self) -> str:
        mend = "choose another version, or overwrite it with `force=true`"
        if self.others:
            mend = (
                f"{quoted(self.others)} registered it, with a bundle of its own; leave `version` at `{{content}}`, or "
                "deploy what shares environments as one target"
            )
        return "\n".join(
            (
                f"{self.where}: task `{self.task}` already has a version `{self.version}` that is different; {mend}",
                *(f"  {difference}" for difference in self.differences),
            )
        )


class TasksNotRegistered(StepError):
    """Some tasks were refused; the others are registered."""

    target: str
    registered: int
    failures: tuple[str, ...]
    """The message of each."""

    @property
    def message(self) -> str:
        head = (
            f"{settings_of(self.target)}: {len(self.failures)} of {len(self.failures) + self.registered} tasks "
            "were not registered; the next run registers only what is missing"
        )
        return "\n".join((head, *self.failures))


# --- state ---------------------------------------------------------------------------------------------------------


class StateUnwritable(StepError):
    """The state folder is on a full disk or may not be written."""

    path: str
    reason: str

    @property
    def message(self) -> str:
        return f"{self.path}: cannot be written: {self.reason}; free some space or make the folder writable"
