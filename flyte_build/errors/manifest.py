"""Errors: deploy.toml."""

from __future__ import annotations

from typing import NamedTuple

from flyte_build.errors.base import ManifestError, perhaps, quoted, suggest


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


class UnknownProfileTarget(ManifestProblem):
    """A profile changes a target that there is not."""

    name: str
    known: tuple[str, ...]
    """Tables of targets."""
    instead: str
    """The table of the profile that changes the target, where a `for_each` makes it; empty: none does."""

    @property
    def problem(self) -> str:
        if self.instead:
            return f"the target `{self.name}` comes from a `for_each`; write `{self.instead}`"
        mend = f"correct the name{perhaps(self.name, self.known)}"
        return f"no target `{self.name}`; {mend}, or write a `path` for a target that only this profile has"


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


class BadRegistry(ManifestProblem):
    registry: str

    @property
    def problem(self) -> str:
        place = self.registry.partition("://")[2]
        return f"`{self.registry}` is a URL, not a registry; write `{place}`"


class BadCacheUrl(ManifestProblem):
    url: str

    @property
    def problem(self) -> str:
        forms = quoted(("s3://BUCKET/PREFIX", "gs://BUCKET/PREFIX", "abfs://CONTAINER/PREFIX", "./FOLDER"))
        return f"`{self.url}` is no place for a cache; write one of {forms}"


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
