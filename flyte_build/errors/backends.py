"""Errors: versions, and control planes."""

from __future__ import annotations

from flyte_build.errors.base import BuildError, StepError, quoted


class VersionWithoutGit(StepError):
    """A version template asks git, and git has no answer."""

    place: str
    placeholder: str
    reason: str

    @property
    def message(self) -> str:
        return (
            f"{self.place}: `{{{self.placeholder}}}` has no value: {self.reason}; "
            "commit or tag the checkout, or use `{content}`"
        )


class VersionVariableUnset(StepError):
    """A version template names an environment variable that is not set."""

    place: str
    name: str

    @property
    def message(self) -> str:
        return f"{self.place}: the environment variable `{self.name}` is not set; set it, or use `{{content}}`"


class VersionTooLong(StepError):
    """A version is longer than Flyte takes."""

    place: str
    version: str
    limit: int

    @property
    def message(self) -> str:
        return (
            f"{self.place}: `{self.version}` has {len(self.version)} characters, and Flyte takes "
            f"{self.limit}; write a shorter one"
        )


class BundleEmpty(StepError):
    """Tasks need a code bundle, and every file was left out of it."""

    place: str

    @property
    def message(self) -> str:
        return (
            f"{self.place}: the bundle would be empty, since `exclude` leaves out every file that was "
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

    place: str
    registered: int
    failures: tuple[BuildError, ...]

    @property
    def parts(self) -> tuple[BuildError, ...]:
        return self.failures

    @property
    def message(self) -> str:
        head = (
            f"{self.place}: {len(self.failures)} of {len(self.failures) + self.registered} tasks "
            "were not registered; the next run registers only what is missing"
        )
        return "\n".join((head, *(failure.message for failure in self.failures)))


class BackendUnreachable(StepError):
    """No answer came from the endpoint, after a few attempts."""

    endpoint: str
    reason: str

    @property
    def message(self) -> str:
        mend = f"check `endpoint` and `insecure` in {self.written('flyte', 'endpoint', 'insecure')}, and the network"
        return f"{self.endpoint}: no answer from a Flyte control plane: {self.reason}; {mend}"


class NotLoggedIn(StepError):
    """The control plane wants credentials, or others than it got."""

    endpoint: str
    reason: str

    @property
    def message(self) -> str:
        where = self.written("flyte", "config")
        mend = f"name a Flyte configuration file with valid credentials as `config` in {where}, or set `FLYTE_API_KEY`"
        return f"{self.endpoint}: login failed: {self.reason}; {mend}"


class NotPermitted(StepError):
    """Whoever is logged in may not do this. `action` completes "may not ..."; `place` is project/domain."""

    endpoint: str
    action: str
    place: str
    reason: str

    @property
    def message(self) -> str:
        where = self.written("flyte", "project", "domain")
        mend = f"ask for the right to deploy there, or change `project` and `domain` in {where}"
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
        where = self.written("flyte", "project", "domain")
        mend = f"check `project` and `domain` in {where}; `flyte get project` lists what there is"
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
        store, flyte = self.written("store", "url"), self.written("flyte", "endpoint")
        mend = f"set `url` in {store} to a `file://` folder, or `endpoint` in {flyte} to that of `doit serve`"
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
