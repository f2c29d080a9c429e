"""The tables of deploy.toml as a user writes them: their keys, types and descriptions, and what is wrong with them."""

from __future__ import annotations

import datetime
import fnmatch
import functools
import json
import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

from flyte_build import errors
from flyte_build.model import Builder, CopyStyle, Value
from flyte_build.toml_lines import KeyPath, key_lines

Keys = tuple[str, ...]


def _about(description: str, example: object) -> msgspec.Meta:
    return msgspec.Meta(description=description, examples=[example])


Text = Annotated[str, msgspec.Meta(title="text")]
FilledText = Annotated[str, msgspec.Meta(title="text that is not empty", min_length=1)]
Flag = Annotated[bool, msgspec.Meta(title="`true` or `false`")]
Texts = Annotated[list[FilledText], msgspec.Meta(title="a list of non-empty text")]
Size = Annotated[str, msgspec.Meta(pattern=r"^[0-9]+ ?([kKMG]i?)?B$")]
Platform = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]+/[a-z0-9_]+(/[a-z0-9]+)?$", examples=["linux/amd64"])]
ImageUri = Annotated[FilledText, msgspec.Meta(examples=["ghcr.io/org/base:v1"])]


class FlyteTable(Value, frozen=True):
    """Where to deploy. Without an endpoint: the embedded control plane."""

    endpoint: Annotated[
        Text, _about("The Flyte backend; empty: the embedded control plane.", "dns:///flyte.example.com")
    ] = ""
    insecure: Annotated[Flag, _about("Talk to the endpoint without TLS.", True)] = False
    project: Annotated[FilledText, _about("The project that tasks are registered in.", "flytesnacks")] = "flytesnacks"
    domain: Annotated[FilledText, _about("The domain that tasks are registered in.", "development")] = "development"
    org: Annotated[Text, _about("The organization; empty: as the SDK takes it from the endpoint.", "acme")] = ""
    config: Annotated[
        Text,
        _about(
            'A Flyte config file, relative to the manifest, for all of this and for authentication; "auto": '
            "found as flyte finds it.",
            "config.yaml",
        ),
    ] = ""


class StoreTable(Value, frozen=True):
    """Where code bundles go."""

    url: Annotated[
        Text,
        _about(
            's3://, gs://, abfs:// or file:// URL, a folder relative to the manifest, or "backend" for signed URLs '
            "of the backend, which is the default with an endpoint.",
            "s3://bucket/prefix",
        ),
    ] = ""
    endpoint_url: Annotated[Text, _about("URL of an S3-compatible server.", "http://127.0.0.1:9000")] = ""
    region: Annotated[Text, _about("Region of the bucket.", "us-east-1")] = ""


class CacheTable(Value, frozen=True):
    """Where results are shared, so that a fresh machine reuses what an earlier run did."""

    url: Annotated[
        Text,
        _about("s3://, gs://, abfs:// or file:// URL, or a folder relative to the manifest.", "s3://bucket/prefix"),
    ] = ""
    read_only: Annotated[Flag, _about("Use what is there and write nothing, as for pull requests.", True)] = False
    endpoint_url: Annotated[Text, _about("URL of an S3-compatible server.", "http://127.0.0.1:9000")] = ""
    region: Annotated[Text, _about("Region of the bucket.", "us-east-1")] = ""


class ImagesTable(Value, frozen=True):
    """How the images of environments are found and built."""

    builder: Annotated[
        Builder, msgspec.Meta(title="`local` or `remote`"), _about("Where images are built.", "local")
    ] = "local"
    registry: Annotated[
        Text, _about("The registry that built images are pushed to, where the code names none.", "localhost:5000")
    ] = ""
    default: Annotated[
        Text, _about('The image of environments that say "auto", as `--image URI` does.', "ghcr.io/org/base:v1")
    ] = ""
    mirrors: Annotated[
        dict[str, ImageUri],
        msgspec.Meta(title="a table of registry = mirror"),
        _about("Registry -> the mirror that base images are pulled from.", {"docker.io": "localhost:5000/hub"}),
    ] = {}
    refs: Annotated[
        dict[str, ImageUri],
        msgspec.Meta(title="a table of name = image"),
        _about(
            "Name -> image, for `Image.from_ref_name`, as `--image name=URI` does.", {"base": "ghcr.io/org/base:v1"}
        ),
    ] = {}
    platforms: Annotated[
        list[Platform],
        msgspec.Meta(title="a list of platforms"),
        _about("What images are built for, instead of what the code says.", ["linux/amd64"]),
    ] = []
    build_args: Annotated[
        dict[str, str],
        msgspec.Meta(title="a table of name = text"),
        _about("Values for the `ARG`s of Dockerfiles.", {"VERSION": "1.2"}),
    ] = {}
    cache_from: Annotated[
        Texts, _about("Where BuildKit looks for layers.", ["type=registry,ref=localhost:5000/cache"])
    ] = []
    cache_to: Annotated[
        Texts, _about("Where BuildKit keeps layers.", ["type=registry,ref=localhost:5000/cache,mode=max"])
    ] = []
    pin: Annotated[Flag, _about("Register built images by their digest instead of their tag.", True)] = False


class TargetOverlay(Value, frozen=True):
    """What to deploy. In a profile: the keys that differ."""

    path: Annotated[
        FilledText,
        _about(
            "A file or a folder, relative to the manifest; with `for_each`, {dir} and {name} stand in it.", "hello.py"
        ),
    ] = ""
    for_each: Annotated[
        FilledText, _about("One target for each folder that matches and holds `path`, named after it.", "services/*")
    ] = ""
    environment: Annotated[
        FilledText | Annotated[list[FilledText], msgspec.Meta(min_length=1)],
        msgspec.Meta(title="a name or a list of names"),
        _about("The variables in the file that hold the environments to deploy.", "env"),
    ] = ""
    all: Annotated[Flag, _about("Deploy every environment of the file, or of the folder's files.", True)] = False
    recursive: Annotated[Flag, _about("Deploy every environment of the folder and of those below it.", True)] = False
    root_dir: Annotated[FilledText, _about("The folder that imports start from.", "services/fraud")] = "."
    copy_style: Annotated[
        CopyStyle,
        msgspec.Meta(title="`loaded_modules`, `all` or `none`"),
        _about("Which files are bundled: the modules that were imported, the whole root, or none.", "all"),
    ] = "loaded_modules"
    version: Annotated[
        FilledText,
        _about("The version of the tasks; may hold {content}, {git_sha}, {git_tag} and {env:NAME}.", "v1-{git_sha}"),
    ] = "{content}"
    include: Annotated[
        Texts, _about("More files for the bundle: patterns relative to the manifest.", ["sql/*.sql"])
    ] = []
    exclude: Annotated[Texts, _about("Files that discovery and the bundle leave out: patterns.", ["**/tests/**"])] = []
    lazy_imports: Annotated[Flag, _about("Bundle local modules that are imported inside functions too.", False)] = True
    ignore_load_errors: Annotated[Flag, _about("Deploy the other files when one cannot be loaded.", True)] = False
    sync_local_sys_paths: Annotated[
        Flag, _about("Give the remote `sys.path` the local entries under the root.", False)
    ] = True
    pass_env: Annotated[Texts, _about("Environment variables that the code may read while it loads.", ["STAGE"])] = []
    load_timeout: Annotated[
        float,
        msgspec.Meta(gt=0, le=86_400, title="a number above 0 and up to 86400"),
        _about("Seconds that loading the code may take.", 300),
    ] = 300
    hermetic: Annotated[
        Flag, _about("Refuse code that starts processes or makes connections while it loads.", True)
    ] = False
    skip_apps: Annotated[Flag, _about("Leave out environments that are apps, which cannot be deployed.", True)] = False
    max_bundle_size: Annotated[
        Annotated[int, msgspec.Meta(gt=0)] | Size,
        msgspec.Meta(title="a number of bytes or a size"),
        _about("How large a bundle may be, before compression: bytes, or text with a unit.", "200MB"),
    ] = 100_000_000


class TargetTable(TargetOverlay, frozen=True):
    """What to deploy, and how it is bundled."""

    path: Annotated[
        FilledText,
        _about(
            "A file or a folder, relative to the manifest; with `for_each`, {dir} and {name} stand in it.", "hello.py"
        ),
    ]


class ProfileTable(Value, frozen=True):
    """Tables that `profile=NAME` lays over those at the top, key by key."""

    flyte: FlyteTable = FlyteTable()
    store: StoreTable = StoreTable()
    cache: CacheTable = CacheTable()
    images: ImagesTable = ImagesTable()
    targets: dict[str, TargetOverlay] = {}


class ManifestTables(Value, frozen=True):
    """deploy.toml: what flyte_build deploys, from where, to where."""

    targets: Annotated[dict[str, TargetTable], msgspec.Meta(min_length=1)]
    flyte: FlyteTable = FlyteTable()
    store: StoreTable = StoreTable()
    cache: CacheTable = CacheTable()
    images: ImagesTable = ImagesTable()
    profiles: dict[str, ProfileTable] = {}


def json_schema() -> bytes:
    """The JSON Schema of deploy.toml, kept in docs/deploy.schema.json for editors."""
    schema: dict[str, Any] = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | msgspec.json.schema(
        ManifestTables
    )
    for table in schema["$defs"].values():
        for key in table["properties"].values():
            if key.get("default") == "" or isinstance(key.get("default"), dict | list):
                del key["default"]  # an editor that fills in defaults must not write keys that say nothing
    return json.dumps(schema, indent=2, ensure_ascii=False).encode() + b"\n"


def unlaid_problems(document: Mapping[str, Any], places: Places) -> Iterator[errors.ManifestError]:
    """Tables of profiles that lie over no target, and are none themselves."""
    targets: Mapping[str, Any] = document["targets"]
    for profile, tables in document.get("profiles", {}).items():
        for name, table in tables.get("targets", {}).items():
            if name not in targets and "path" not in table:
                maker = next((key for key, made in targets.items() if _may_make(made, name)), "")
                yield errors.UnknownProfileTarget(
                    place=places.at("profiles", profile, "targets", name, ""),
                    name=name,
                    known=tuple(targets),
                    instead=label(("profiles", profile, "targets", maker, "")) if maker else "",
                )


def _may_make(table: Mapping[str, Any], name: str) -> bool:
    """Whether a `for_each` may have a target of that name."""
    return "for_each" in table and fnmatch.fnmatchcase(name, table["for_each"])


class Places:
    """Finds where the keys of one manifest are written. The text is scanned only when something is wrong."""

    def __init__(self, file: str, text: str, profile: str = "") -> None:
        self.file = file
        self._text = text
        self._profile: Keys = ("profiles", profile) if profile else ()

    @functools.cached_property
    def _lines(self) -> dict[KeyPath, int]:
        return key_lines(self._text)

    def at(self, *path: str) -> errors.Place:
        """The place of a key, or of its table if the file lacks it. A path that ends in "" means the table itself."""
        overlay = dict.fromkeys((self._profile, ()))
        for length in range(len(path), 0, -1):
            for prefix in overlay if length == len(path) else reversed(overlay):
                line = self._lines.get((*prefix, *path[:length]))
                if line:
                    return errors.Place(self.file, line, label((*prefix, *path)))
        return errors.Place(self.file, 0, label(path))


def spelling_problems(document: Mapping[str, Any], places: Places) -> list[errors.ManifestError]:
    """Unknown keys, missing keys, and values of the wrong type or out of range, at every depth."""
    return list(_problems(document, ManifestTables, (), places))


def _problems(value: object, hint: Any, path: Keys, places: Places) -> Iterator[errors.ManifestError]:
    """Walks types and values side by side, since the validator itself stops at the first problem."""
    if _fits(value, hint):
        return
    kind, metas = _unwrapped(hint)
    children = list(_children(value, kind, path))
    below = [problem for inner, inner_hint, at in children for problem in _problems(inner, inner_hint, at, places)]
    if _is_table(kind) and isinstance(value, dict):
        below += _key_problems(value, kind, path, places)
    if below:
        yield from below
    elif not path or path == ("targets",):
        yield errors.NoTargets(place=places.at("targets", ""))
    elif get_origin(kind) is Literal and isinstance(value, str):
        yield errors.UnknownChoice(place=places.at(*path), value=value, choices=get_args(kind))
    else:
        yield _wrong_value(value, metas, path, places)


def _children(value: object, kind: Any, path: Keys) -> Iterator[tuple[object, Any, Keys]]:
    """The parts of a value that have types of their own, with the paths to them."""
    arguments = get_args(kind)
    if get_origin(kind) is dict and isinstance(value, dict):
        yield from ((inner, arguments[1], (*path, key)) for key, inner in value.items())
    elif _is_table(kind) and isinstance(value, dict):
        fields = _fields(kind)
        yield from ((inner, fields[key].type, (*path, key)) for key, inner in value.items() if key in fields)


def _key_problems(
    value: Mapping[str, object], kind: type[msgspec.Struct], path: Keys, places: Places
) -> Iterator[errors.ManifestError]:
    fields = _fields(kind)
    for key, inner in value.items():
        if key not in fields:
            table = isinstance(inner, dict)
            at = places.at(*path, key, "") if table else places.at(*path, key)
            yield errors.UnknownKey(place=at, name=key, known=tuple(fields), table=table)
    if value.keys() - fields.keys():
        return  # what is missing may be what is misspelled
    for name, field in fields.items():
        if field.required and name not in value and path:
            example = f"{name} = {_toml(_example(_unwrapped(field.type)[1]))}"
            yield errors.MissingKey(place=places.at(*path, ""), name=name, example=example)


def _wrong_value(value: object, metas: list[msgspec.Meta], path: Keys, places: Places) -> errors.WrongValue:
    title = next((meta.title for meta in metas if meta.title), "a table")
    example = _example(metas)
    shown = f"{_toml_key(path[-1])} = {_toml(example)}" if example is not None else label((*path, ""))
    return errors.WrongValue(place=places.at(*path), expected=title, found=_short(_toml(value)), example=shown)


def _is_table(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


@functools.cache
def _fields(table: type[msgspec.Struct]) -> dict[str, msgspec.structs.FieldInfo]:
    return {field.name: field for field in msgspec.structs.fields(table)}


def _fits(value: object, hint: Any) -> bool:
    try:
        msgspec.convert(value, hint)
    except msgspec.ValidationError:
        return False
    return True


def _unwrapped(hint: Any) -> tuple[Any, list[msgspec.Meta]]:
    """The type without `Annotated`, and its annotations, the outermost first."""
    if get_origin(hint) is Annotated:
        kind, *metas = get_args(hint)
        return kind, metas[::-1]
    return hint, []


def _example(metas: list[msgspec.Meta]) -> object:
    return next((meta.examples[0] for meta in metas if meta.examples), None)


def label(path: Keys) -> str:
    """`[targets.fraud] copy_style`; of a path that ends in "": `[targets.fraud]`."""
    *tables, key = path
    shown = _toml_key(key) if key else ""
    return f"[{'.'.join(map(_toml_key, tables))}] {shown}".strip() if tables else shown


def _toml_key(key: str) -> str:
    bare = key.isascii() and key.replace("-", "").replace("_", "").isalnum()
    return key if bare else json.dumps(key, ensure_ascii=False)


def _toml(value: object) -> str:
    """A value as it is written in TOML."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_toml_key(key)} = {_toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(inner) for inner in value) + "]"
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value, ensure_ascii=False)


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
