"""What an image is made of, as frozen values. Paths are absolute, normalized and of this machine."""

from __future__ import annotations

from typing import TypeAlias

from flyte_build.model import BuildSecret, Value
from flyte_build.state import digest


class Secret(Value, frozen=True):
    """A secret that a layer's commands may use while they run."""

    key: str
    group: str = ""
    variable: str = ""
    """Environment variable that holds it."""
    mount: str = ""
    """Path of the file that holds it, instead."""

    @property
    def id(self) -> str:
        """Names the secret to BuildKit: the same on every machine, and no other secret's."""
        return digest.of_parts("secret", (self.group, self.key))[:16]

    def build_secret(self) -> BuildSecret:
        return BuildSecret(id=self.id, key=self.key, group=self.group)


class PipOptions(Value, frozen=True):
    index_url: str = ""
    extra_index_urls: tuple[str, ...] = ()
    pre: bool = False
    extra_args: str = ""
    secrets: tuple[Secret, ...] = ()

    def arguments(self) -> list[str]:
        """As uv takes them; a shell will read them."""
        return [
            *([f"--index-url {self.index_url}"] if self.index_url else []),
            *(f"--extra-index-url {url}" for url in self.extra_index_urls),
            *(["--pre"] if self.pre else []),
            *([self.extra_args] if self.extra_args else []),
        ]


class PipPackages(Value, frozen=True):
    packages: tuple[str, ...]
    options: PipOptions = PipOptions()


class Requirements(Value, frozen=True):
    file: str
    options: PipOptions = PipOptions()


class Wheels(Value, frozen=True):
    """A package installed from a folder of wheels, which beats any that is published."""

    folder: str
    package: str
    options: PipOptions = PipOptions()


class UvProject(Value, frozen=True):
    pyproject: str
    lock: str = ""
    install: bool = False
    """The project itself, too; else only what it depends on."""
    local: tuple[str, ...] = ()
    """Folders of packages that it depends on by a path; the whole project holds its own."""
    options: PipOptions = PipOptions()


class UvScript(Value, frozen=True):
    """What the header of a script asks for. The script itself is not part of the image."""

    script: str
    packages: tuple[str, ...] = ()
    projects: tuple[UvProject, ...] = ()
    options: PipOptions = PipOptions()


class PoetryProject(Value, frozen=True):
    pyproject: str
    lock: str
    install: bool = False
    extra_args: str = ""
    secrets: tuple[Secret, ...] = ()


class PixiProject(Value, frozen=True):
    manifest: str
    """Its file, or the script that `text` was made from."""
    text: str = ""
    """The manifest made from a script's header; empty: it is in the file."""
    lock: str = ""
    environment: str = "default"
    install: bool = False
    extra_args: str = ""
    secrets: tuple[Secret, ...] = ()

    @property
    def name(self) -> str:
        """The manifest's file name in the image."""
        return "pixi.toml" if self.text else self.manifest.rpartition("/")[2]

    def arguments(self) -> list[str]:
        locked = self.lock and "--frozen" not in self.extra_args  # pixi takes one of the two
        return [*(["--locked"] if locked else []), *([self.extra_args] if self.extra_args else [])]


class Apt(Value, frozen=True):
    packages: tuple[str, ...]
    secrets: tuple[Secret, ...] = ()


class Commands(Value, frozen=True):
    commands: tuple[str, ...]
    secrets: tuple[Secret, ...] = ()


class Env(Value, frozen=True):
    variables: tuple[tuple[str, str], ...]


class WorkDir(Value, frozen=True):
    path: str
    """In the image."""


class Copy(Value, frozen=True):
    source: str
    destination: str
    is_folder: bool


class CodeBundle(Value, frozen=True):
    """The target's own code, where there is no code bundle: `files` of the root, relative to it."""

    root: str
    files: tuple[str, ...]
    destination: str


class DockerIgnore(Value, frozen=True):
    path: str


class Lines(Value, frozen=True):
    """Lines of a Dockerfile, such as labels of the SDK's own images."""

    lines: tuple[str, ...]


Layer: TypeAlias = (
    PipPackages
    | Requirements
    | Wheels
    | UvProject
    | UvScript
    | PoetryProject
    | PixiProject
    | Apt
    | Commands
    | Env
    | WorkDir
    | Copy
    | CodeBundle
    | DockerIgnore
    | Lines
)


class Recipe(Value, frozen=True):
    """One image of the code's that has to be built."""

    name: str
    platforms: tuple[str, ...]
    python: str
    """Version, for a base that has none, such as `3.12`."""
    base: str = ""
    base_reference: str = ""
    """Name of the base in `[images.refs]`, when it has no URI."""
    dockerfile: str = ""
    """Path of the user's own; then there are no layers."""
    registry: str = ""
    registry_secret: BuildSecret | None = None
    layers: tuple[Layer, ...] = ()
    creates_user: bool = False
    """Whether a layer makes the user `flyte`, as which tasks then run."""
    is_preset: bool = False
    """Whether the SDK has a fixed tag for it."""


def secrets_of(layer: Layer) -> tuple[Secret, ...]:
    """The secrets that a layer mounts."""
    match layer:
        case PipPackages() | Requirements() | Wheels() | UvProject() | UvScript():
            return layer.options.secrets
        case PoetryProject() | PixiProject() | Apt() | Commands():
            return layer.secrets
        case _:
            return ()


def build_secrets(layers: tuple[Layer, ...]) -> tuple[BuildSecret, ...]:
    """All that a build mounts, each once, in order."""
    found = (secret for layer in layers for secret in secrets_of(layer))
    return tuple(dict.fromkeys(each.build_secret() for each in found))
