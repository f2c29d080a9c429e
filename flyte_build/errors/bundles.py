"""Errors: code bundles."""

from __future__ import annotations

from flyte_build.errors.base import StepError, quoted


class IncludeMatchesNothing(StepError):
    where: str
    """The key."""
    pattern: str
    left_out: tuple[str, ...]
    """What it would match but for the ignore rules, `exclude`, and the rule about secrets."""

    @property
    def message(self) -> str:
        if self.left_out:
            problem = f"matches only files that are left out, such as {quoted(self.left_out[:3])}"
            return f"{self.where}: `{self.pattern}` {problem}; name each file in full to bundle it all the same"
        return f"{self.where}: `{self.pattern}` matches no file; correct it, or take it out"


class IncludeOutsideRoot(StepError):
    where: str
    pattern: str
    root: str

    @property
    def message(self) -> str:
        problem = f"lies outside the root `{self.root}`, and a bundle holds only what is inside"
        return f"{self.where}: `{self.pattern}` {problem}; set `root_dir` to a folder that holds both"


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

    place: str
    size: int
    limit: int
    largest: tuple[tuple[str, int], ...]

    @property
    def message(self) -> str:
        head = f"{self.place}: bundle of {megabytes(self.size)} is above the {megabytes(self.limit)} allowed"
        mend = "leave files out with `exclude` or .flyteignore, or raise `max_bundle_size`"
        rows = "".join(f"\n{megabytes(size):>12}  {path}" for path, size in self.largest)
        return f"{head}; {mend}; its largest files:{rows}"


def megabytes(size: int) -> str:
    """`12.3 MB`, of a million bytes each."""
    return f"{size / 1_000_000:,.1f} MB"
