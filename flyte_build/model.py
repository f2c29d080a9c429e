"""The frozen values that pass between steps, named after Flyte's own nouns.

Nothing here touches a disk, a network or the Flyte SDK. Paths are POSIX strings relative to the
target's root (`root_dir`) unless a field says otherwise, so that a value means the same on every machine.
"""

from __future__ import annotations

from typing import Literal

import msgspec

CopyStyle = Literal["loaded_modules", "all", "none"]
Builder = Literal["local", "remote"]
CauseKind = Literal[
    "missing",
    "receipt",
    "need",
    "asked",
    "file",
    "folder",
    "path",
    "import",
    "variable",
    "setting",
    "package",
    "output",
    "opaque",
]


class Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every value: immutable, compared by content, printable as canonical JSON."""

    def json(self) -> bytes:
        """Canonical JSON: same value, same bytes."""
        return msgspec.json.encode(self, order="deterministic")


class BackendSettings(Value, frozen=True):
    """Where tasks are registered. An empty `endpoint` is the embedded control plane."""

    endpoint: str = ""
    insecure: bool = False
    project: str = "flytesnacks"
    domain: str = "development"
    org: str = ""
    config: str = ""
    """Absolute path of a Flyte configuration file that authentication is taken from; empty: none."""

    @property
    def embedded(self) -> bool:
        return not self.endpoint


class StoreSettings(Value, frozen=True):
    """Where code bundles go. `url` is `file://`, `s3://`, `gs://`, `abfs://`, or `backend` for signed URLs."""

    url: str
    endpoint_url: str = ""
    region: str = ""


class CacheSettings(Value, frozen=True):
    """Where results are shared with other machines. An empty `url`: nowhere."""

    url: str = ""
    """`file://`, `s3://`, `gs://` or `abfs://`."""
    read_only: bool = False
    endpoint_url: str = ""
    region: str = ""


class ImageSettings(Value, frozen=True):
    """How the image of an environment is found or built."""

    builder: Builder = "local"
    registry: str = ""
    default: str = ""
    mirrors: dict[str, str] = {}
    refs: dict[str, str] = {}
    platforms: tuple[str, ...] = ()
    """Instead of those that the code names; empty: those."""
    build_args: dict[str, str] = {}
    cache_from: tuple[str, ...] = ()
    cache_to: tuple[str, ...] = ()
    pin: bool = False
    """Register built images by their digest."""


class Origin(Value, frozen=True):
    """Where a target's settings are written, for messages: no result depends on it."""

    table: str = ""
    """Such as `[targets.fraud]`."""
    for_each: bool = False
    """Whether the table makes several targets, each named by its folder."""
    elsewhere: dict[str, str] = {}
    """Keys that count from another place -> that place, such as `[profiles.prod.targets.fraud]`."""


class Target(Value, frozen=True):
    """One target of deploy.toml, complete: defaults and templates are filled in.

    Paths are relative to the manifest's folder.
    """

    name: str
    path: str
    origin: Origin = Origin()
    environments: tuple[str, ...] = ()
    """Names of module-level variables; empty when `all` or `recursive` selects."""
    names: tuple[str, ...] = ()
    """Names of environments, which the Python API selects by."""
    all: bool = False
    recursive: bool = False
    root_dir: str = "."
    copy_style: CopyStyle = "loaded_modules"
    version: str = "{content}"
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    lazy_imports: bool = True
    ignore_load_errors: bool = False
    sync_local_sys_paths: bool = True
    pass_env: tuple[str, ...] = ()
    load_timeout: float = 300
    """Seconds."""
    hermetic: bool = False
    skip_apps: bool = False
    max_bundle_size: int = 100_000_000
    """Bytes, before compression."""

    def settings(self, key: str) -> str:
        """Where a setting is written, or has to be written so that it counts: `[targets.fraud]`."""
        return self.origin.elsewhere.get(key, self.origin.table)

    def place(self, key: str = "") -> str:
        """What a message about a setting, or about the whole, begins with: `[targets.fraud] version`."""
        where = f"{self.settings(key)} {key}".rstrip()
        return f"{where}, for `{self.name}`" if self.origin.for_each else where

    def spelled(self, path: str) -> str:
        """A path relative to the manifest as the table has to say it, which may stand for several folders."""
        if self.origin.for_each and f"{path}/".startswith(f"{self.name}/"):
            return f"{{dir}}{path.removeprefix(self.name)}"
        return path


class BuildSecret(Value, frozen=True):
    """A secret that a build mounts. Its value is found where the image is built and is kept nowhere."""

    id: str
    """What the Dockerfile's mounts call it."""
    key: str
    group: str = ""


class ImageBuild(Value, frozen=True):
    """An image that has to be built, as data: building it needs none of the user's code."""

    name: str
    """Repository without its registry."""
    dockerfile: str
    """Text, with stand-ins for the image's own URI and for a base that is a reference. No mirror is applied yet."""
    platforms: tuple[str, ...]
    registry: str = ""
    """As the code names it; empty: that of `[images]`."""
    context: str = ""
    """Digest of the context, an uncompressed tar that is kept under it; empty: there are no files."""
    context_files: int = 0
    context_size: int = 0
    """Bytes of the files."""
    secrets: tuple[BuildSecret, ...] = ()
    """What the Dockerfile mounts."""
    registry_secret: BuildSecret | None = None
    """What the backend's builder pulls and pushes with, when the code names it."""
    base_reference: str = ""
    """Name in `[images.refs]` of the base, when the Dockerfile has a stand-in for it."""
    exact_tag: str = ""
    """The SDK's own tag, where that stands for the whole content; empty: it does not."""
    remote_spec: bytes = b""
    """`flyteidl2.imagebuilder.ImageSpec` for the backend's builder, whose paths are in the context."""
    remote_refusal: str = ""
    """Why the backend's builder cannot build it; empty: it can."""


class ImageDraft(Value, frozen=True):
    """What an environment says about its image, before anything is resolved.

    - `fixed`: text in the code names it; it is not part of the image cache that tasks carry.
    - `uri`: an `Image` that stands for an existing one.
    - `auto`: the SDK's default image, in `uri`, unless `[images] default` replaces it.
    - `ref`: `Image.from_ref_name`, whose name is in `reference`.
    - `none`: no image at all.
    - `build`: has to be built; `build` says how.
    """

    kind: Literal["fixed", "uri", "auto", "ref", "none", "build"]
    uri: str = ""
    reference: str = ""
    build: ImageBuild | None = None


class TaskDraft(Value, frozen=True):
    """One serialized task with stand-ins where version, bundle, images, project, domain and org will go."""

    name: str
    spec: bytes
    """A `flyteidl2.task.TaskSpec`, serialized deterministically."""
    triggers: tuple[bytes, ...] = ()
    """`flyteidl2.task.TaskTrigger` messages."""
    source_file: str = ""
    source_line: int = 0
    """The line of the `def`, for the link to the source."""


class EnvironmentDraft(Value, frozen=True):
    name: str
    image: ImageDraft
    depends_on: tuple[str, ...]
    tasks: tuple[TaskDraft, ...]
    file: str
    """Where it was declared."""
    include: tuple[str, ...] = ()
    """`Environment.include`, made relative to the root."""


class Discovery(Value, frozen=True):
    """What running a target's files gave. `environments` has dependencies before dependents."""

    environments: tuple[EnvironmentDraft, ...]
    loaded_files: tuple[str, ...]
    """Local modules that were imported, under the root."""
    readers: dict[str, str] = {}
    """What the code looked at -> the file whose code did so first; empty: a file of the target, loaded by us.

    Paths are as in a trace, those outside the manifest's folder left out. `$NAME` is an environment variable;
    `import PATH`, a module looked for, without its suffix.
    """
    warnings: tuple[str, ...] = ()


class BundleFile(Value, frozen=True):
    path: str
    digest: str
    size: int
    executable: bool = False


class Bundle(Value, frozen=True):
    """A code bundle. `digest` is of paths, modes and contents, never of compressed bytes."""

    digest: str
    files: tuple[BundleFile, ...]
    archive_size: int
    """Bytes of the compressed archive."""
    readers: dict[str, str] = {}
    """What imports inside functions lead to, or look for in vain -> the file that has the import.

    Paths are as in a trace. No part of what is bundled.
    """

    @property
    def filename(self) -> str:
        return f"{self.digest}.tar.gz"

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


class Upload(Value, frozen=True):
    """Where a bundle's archive is. `sent` is False when the store held it already, with the same bytes."""

    uri: str
    sent: bool


class Progress(Value, frozen=True):
    """A line that a running step has to say."""

    step: str
    target: str
    image: str
    """URI of the image whose build says it."""
    line: str


class Registration(Value, frozen=True):
    """One task, bound and ready to be sent."""

    name: str
    environment: str
    version: str
    spec: bytes
    triggers: tuple[bytes, ...] = ()


class Cause(Value, frozen=True):
    """Why a step must run, as data.

    - `missing`: it was not done yet. `receipt`: what says that it was done cannot be used. `need`: an earlier step,
      `name`, was not done. `asked`: somebody wants it.
    - `file`, `folder`, `path` (something that was looked for), `import`, `variable`: what the step looked at changed.
    - `setting`: a field of the key, and after a dot a name in it. `package`: an installed distribution.
    - `output`: a file of the step's own result. `opaque`: the code does what cannot be seen.
    """

    kind: CauseKind
    name: str = ""
    old: str = ""
    """Digest; of a `path` or an `import`, what was there; of a `package`, its version. Empty: nothing was there."""
    new: str = ""
    chain: tuple[str, ...] = ()
    """From a file of the target, through those that it imports, to what changed; empty: not known."""


class Fresh(Value, frozen=True, tag="fresh"):
    """Nothing that the step depends on has changed since its receipt was written."""


class Stale(Value, frozen=True, tag="stale"):
    """The step must run."""

    reason: str
    """What the user reads."""
    cause: Cause


Verdict = Fresh | Stale
