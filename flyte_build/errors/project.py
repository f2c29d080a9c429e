"""Errors: the graph, the Python API and the state folder."""

from __future__ import annotations

from flyte_build.errors.base import StepError, perhaps


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


class TakenAway(StepError):
    """What a run looks at was removed meanwhile: a plan goes on beside other runs."""

    path: str

    @property
    def message(self) -> str:
        return f"{self.path}: removed while this run looked at it, as another run does, or `doit clean`; run this again"


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
            f'outside of `if __name__ == "__main__":`{perhaps(self.name, self.known)}'
        )


class StateUnwritable(StepError):
    """The state folder is on a full disk or may not be written."""

    path: str
    reason: str

    @property
    def message(self) -> str:
        mend = "free some space, make the folder writable, or remove what is in its place"
        return f"{self.path}: cannot be written: {self.reason}; {mend}"


class ScratchUnwritable(StepError):
    """What code declares cannot be handed over: the disk that temporary files are on is full, or there is none."""

    folder: str
    """Empty: there is none that can be written."""

    @property
    def message(self) -> str:
        where = self.folder or "no folder for temporary files"
        return f"{where}: what loading gives cannot be written there; free some space, or set TMPDIR to another folder"


class StateBusy(StepError):
    """Another run works in the state folder, and this one was told not to wait."""

    folder: str
    holder: str

    @property
    def message(self) -> str:
        return f"{self.folder}: in use by {self.holder}; run again when that has ended, or leave out `wait=false`"
