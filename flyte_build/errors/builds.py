"""Errors: building and pushing images."""

from __future__ import annotations

from flyte_build.errors.base import StepError, quoted


class RegistryNotSet(StepError):
    """An image is to be built, and nothing says where to."""

    environment: str
    image: str

    @property
    def message(self) -> str:
        where = self.written("images", "registry")
        return (
            f"environment `{self.environment}`: its image `{self.image}` has to be built, and no registry is set to "
            f'push it to; set `registry` in {where}, such as `registry = "localhost:5000"`, or name one in the code'
        )


class ImageStateUnknown(StepError):
    """The registry does not say whether it has an image."""

    uri: str
    reason: str
    registry: str

    @property
    def message(self) -> str:
        return (
            f"cannot tell whether `{self.uri}` exists: {self.reason}; check that the registry `{self.registry}` runs "
            f"and that `docker login {self.registry}` was done with an account that may read it"
        )


class RegistryMisnamed(StepError):
    """No server can have the registry's name. `reason` says why."""

    uri: str
    registry: str
    reason: str

    @property
    def message(self) -> str:
        where = self.written("images", "registry")
        return (
            f"`{self.uri}`: `{self.registry}` cannot name a registry: {self.reason}; write HOST or HOST:PORT as the "
            f"image's registry in the code or `registry` in {where}"
        )


class NotARegistry(StepError):
    """What answers in a registry's place is something else, which says of everything that it is not there."""

    uri: str
    registry: str
    address: str
    said: str

    @property
    def message(self) -> str:
        where = self.written("images", "registry")
        return (
            f"cannot tell whether `{self.uri}` exists: `{self.registry}` answers as no registry does, with {self.said} "
            f"to GET {self.address}; correct the image's registry in the code or `registry` in {where}, or see to it "
            "that the proxy in between lets this through"
        )


class SeveralImagesFailed(StepError):
    """More than one image of a target could not be brought."""

    failures: tuple[StepError, ...]
    alike: tuple[tuple[str, ...], ...]
    """Other images that failed as that of each failure did."""

    @property
    def parts(self) -> tuple[StepError, ...]:
        return self.failures

    @property
    def message(self) -> str:
        pairs = zip(self.failures, self.alike, strict=True)
        return "\n".join(
            f"{failure.message}\nthe same for {quoted(uris)}" if uris else failure.message for failure, uris in pairs
        )


class DockerMissing(StepError):
    """There is no `docker` command."""

    uri: str

    @property
    def message(self) -> str:
        where = self.written("images", "builder")
        return (
            f"`{self.uri}` has to be built, and there is no `docker` command; install Docker, "
            f'or set `builder = "remote"` in {where} for a backend that builds images'
        )


class EngineUnreachable(StepError):
    """The Docker engine does not answer."""

    uri: str
    reason: str

    @property
    def message(self) -> str:
        return (
            f"`{self.uri}` has to be built, and the Docker engine does not answer: {self.reason}; start it, or set "
            "DOCKER_HOST or `docker context use` to one that runs"
        )


class EngineForbidden(StepError):
    """This user may not talk to the Docker engine."""

    uri: str
    reason: str

    @property
    def message(self) -> str:
        return (
            f"`{self.uri}` has to be built, and this user may not use the Docker engine: {self.reason}; "
            "add the user to the group that owns the socket (often `docker`), or use a rootless engine"
        )


class BuildxMissing(StepError):
    """The client leaves BuildKit to a plugin that is not there."""

    uri: str
    command: str

    @property
    def message(self) -> str:
        return (
            f"`{self.uri}` has to be built, and `{self.command}` builds with buildx, which is missing; install "
            "docker-buildx"
        )


class SeveralPlatforms(StepError):
    """What is installed builds for one platform at a time."""

    uri: str
    platforms: tuple[str, ...]
    reason: str

    @property
    def message(self) -> str:
        where = self.written("images", "platforms")
        return (
            f"`{self.uri}` is for {' and '.join(self.platforms)}, and {self.reason}; {self._mend}, or set "
            f'`platforms = ["{self.platforms[0]}"]` in {where}'
        )

    @property
    def _mend(self) -> str:
        return (
            "install docker-buildx"
            if "buildx" in self.reason
            else "make one that can with `docker buildx create --use --driver-opt network=host`"
        )


class BuildSecretMissing(StepError):
    """A secret that a build mounts is nowhere."""

    uri: str
    variable: str
    file: str

    @property
    def message(self) -> str:
        return (
            f"building `{self.uri}` needs a secret that is not here; set the environment variable `{self.variable}`, "
            f"or write the file `{self.file}`"
        )


class BaseImageMissing(StepError):
    """An image that the build pulls is not there."""

    uri: str
    base: str
    reason: str

    @property
    def message(self) -> str:
        where = self.written("images", "mirrors")
        return (
            f"building `{self.uri}`: the image `{self.base}` cannot be pulled: {self.reason}; check its name, "
            f"`docker login`, and `mirrors` in {where}"
        )


class EngineDiskFull(StepError):
    """The engine has no room, or a step's own tmpfs has none: the system says the same of both."""

    uri: str
    step: str
    """Whose command met with it; empty: the engine itself did."""
    log: str

    @property
    def message(self) -> str:
        free = "free some with `docker system prune` or `docker builder prune`"
        if not self.step:
            return f"building `{self.uri}`: the disk of the Docker engine is full; {free}"
        return (
            f"building `{self.uri}`: no space was left for `{self.step}`: either the disk of the Docker engine is "
            f"full, then {free}; or the step wrote into a tmpfs of its own or /dev/shm, then give that a greater size; "
            f"the whole log is in {self.log}"
        )


class PushRefused(StepError):
    """The registry does not take an image."""

    uri: str
    registry: str
    reason: str

    @property
    def message(self) -> str:
        where = self.written("images", "registry")
        return (
            f"`{self.uri}` was built and cannot be pushed: {self.reason}; run `docker login {self.registry}` with an "
            f"account that may write there, or set another `registry` in {where}"
        )


class BuildFailed(StepError):
    """A step of a Dockerfile failed."""

    uri: str
    step: str
    """As BuildKit shows it; empty: none that it names."""
    output: str
    log: str

    @property
    def message(self) -> str:
        at = f" at `{self.step}`" if self.step else ""
        return f"building `{self.uri}` failed{at}; the whole log is in {self.log}\n{self.output}".rstrip()


class PushedImageMissing(StepError):
    """A build ended well, and the registry does not have its image."""

    uri: str
    registry: str

    @property
    def message(self) -> str:
        return (
            f"`{self.uri}` was built and pushed, and is not there for all its platforms; check that `{self.registry}` "
            "means the same registry to the Docker engine and to this machine"
        )


class ImageNotRemote(StepError):
    """The backend's builder cannot build an image."""

    environment: str
    file: str
    reason: str

    @property
    def message(self) -> str:
        where = self.written("images", "builder")
        return (
            f"{self.file}: the image of environment `{self.environment}` cannot be built by the backend: "
            f'{self.reason}; set `builder = "local"` and `registry` in {where}'
        )
