"""deploy.toml -> Manifest: what is to be deployed, from where, to where, with nothing left to fill in."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import msgspec
import tomli

from flyte_build import errors
from flyte_build.flyte_config import (
    find_flyte_config,
    is_endpoint,
    normal_endpoint,
    organization_of,
    read_flyte_config,
    shown,
)
from flyte_build.manifest_tables import (
    CacheTable,
    FlyteTable,
    Places,
    StoreTable,
    TargetTable,
    json_schema,
    label,
    spelling_problems,
    unlaid_problems,
)
from flyte_build.manifest_targets import VERSION_PARTS, read_targets, unknown_placeholders
from flyte_build.model import (
    BackendSettings,
    Builder,
    CacheSettings,
    ImageSettings,
    Origin,
    StoreSettings,
    Target,
    Value,
)

__all__ = ["VARIABLES", "Manifest", "json_schema", "parse_manifest", "read_manifest"]

VARIABLES = ("profile", "project", "domain", "version", "manifest", "port", "output", "force", "wait", "prune")
"""Every `name=value` word that the command line takes; the first four change the manifest."""

CHOICES = {"force": ("true", "false"), "wait": ("true", "false"), "output": ("text", "jsonl")}
"""What may stand after `name=`, where not everything may."""

Tables = Mapping[str, Any]
"""Tables as TOML gives them: a layer of settings."""

_BUCKETS = ("s3", "gs", "abfs")


class Manifest(Value, frozen=True):
    """A deploy.toml, complete: profile, variables, Flyte config, `for_each` and defaults are worked in."""

    folder: str
    """Absolute, without symbolic links; every path in `targets` is relative to it."""
    file: str
    """The manifest as the user would write it, for messages."""
    backend: BackendSettings
    store: StoreSettings
    images: ImageSettings
    targets: dict[str, Target]
    cache: CacheSettings = CacheSettings()
    elsewhere: dict[str, str] = {}
    """TABLE.KEY of settings that are not written in `[TABLE]` -> where they are, such as `[profiles.prod.store]`."""


def read_manifest(path: Path, variables: Mapping[str, str], environ: Mapping[str, str]) -> Manifest:
    """Reads a manifest, and the Flyte config file that it names.

    `variables` are the `name=value` words of the command line.

    Raises:
        ManifestError: the file is missing or unreadable, or something in it is wrong.
    """
    file = shown(path)
    try:
        text = path.read_bytes().decode()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise errors.ManifestMissing(file=file) from error
    except UnicodeDecodeError as error:
        raise errors.ManifestUnreadable(file=file, reason="it is not UTF-8") from error
    except OSError as error:
        raise errors.ManifestUnreadable(file=file, reason=f"{error.strerror}".lower()) from error
    return parse_manifest(text, file=file, folder=path.parent, variables=variables, environ=environ)


def parse_manifest(
    text: str, *, file: str, folder: Path, variables: Mapping[str, str], environ: Mapping[str, str]
) -> Manifest:
    """The manifest that a text means in a folder.

    Every problem is reported at once: first those of spelling and types, and, when there are none, those of meaning.

    Raises:
        ManifestError: something in it is wrong.
    """
    document = _document(text, file)
    _raise([*_variable_problems(variables), *spelling_problems(document, Places(file, text))])
    _raise(list(unlaid_problems(document, Places(file, text))))
    profile = variables.get("profile", "")
    overlay = _profile(document.pop("profiles", {}), profile, file)
    places = Places(file, text, profile)
    written = _overlaid(document, overlay)
    _raise(spelling_problems(written, places))  # a target that only the profile has may lack something
    root = Path(os.path.realpath(folder))
    config, config_layer = _flyte_config(written, root, environ, places)
    layers = (config_layer, document, overlay, _command_line(variables, written["targets"]))
    tables = functools.reduce(_overlaid, map(_one_default_image, layers))
    target_tables = msgspec.convert(tables["targets"], dict[str, TargetTable])
    origins = {name: _origin(name, document, overlay, variables) for name in target_tables}
    targets, problems = read_targets(target_tables, str(root), places, origins)
    _raise([*_settings_problems(tables, config, places), *problems])
    backend = _backend(msgspec.convert(tables["flyte"], FlyteTable), config)
    store = _store(msgspec.convert(tables.get("store", {}), StoreTable), backend, root)
    return Manifest(
        folder=str(root),
        file=file,
        backend=backend,
        store=store,
        images=_images(tables["images"]),
        targets=targets,
        cache=_cache(msgspec.convert(tables.get("cache", {}), CacheTable), root),
        elsewhere=_elsewhere(overlay, variables),
    )


def _document(text: str, file: str) -> dict[str, Any]:
    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        reason = error.msg[:1].lower() + error.msg[1:]
        raise errors.ManifestSyntax(file=file, line=error.lineno, column=error.colno, reason=reason) from error


def _profile(profiles: Mapping[str, Tables], name: str, file: str) -> Tables:
    if name and name not in profiles:
        raise errors.UnknownProfile(file=file, name=name, known=tuple(profiles))
    return profiles.get(name, {})


def _raise(problems: list[errors.ManifestError]) -> None:
    """Raises when there are problems, in the order of the file; those that are not in it come first."""
    if problems:
        different = {problem.message: problem for problem in problems}.values()
        raise errors.ManifestProblems(problems=tuple(sorted(different, key=_line)))


def _line(problem: errors.ManifestError) -> int:
    return problem.place.line if isinstance(problem, errors.ManifestProblem) else 0


def _overlaid(below: Tables, above: Tables) -> dict[str, Any]:
    """The tables below, with the keys of the tables above laid over them."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        merged[key] = _overlaid(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return merged


def _command_line(variables: Mapping[str, str], targets: Tables) -> Tables:
    flyte = {name: variables[name] for name in ("project", "domain") if name in variables}
    version = {"version": variables["version"]} if "version" in variables else {}
    return {"flyte": flyte, "targets": dict.fromkeys(targets, version)}


def _origin(name: str, document: Tables, overlay: Tables, variables: Mapping[str, str]) -> Origin:
    """Where the keys of a table of targets are written."""
    tables = [layer.get("targets", {}).get(name) for layer in (document, overlay)]
    places = [label(("targets", name, "")), label(("profiles", variables.get("profile", ""), "targets", name, ""))]
    below, above = tables
    return Origin(
        table=places[0] if below is not None else places[1],
        for_each=any("for_each" in table for table in tables if table),
        elsewhere={
            **(dict.fromkeys(above, places[1]) if above and below is not None else {}),
            **({"version": "command line:"} if "version" in variables else {}),
        },
    )


def _elsewhere(overlay: Tables, variables: Mapping[str, str]) -> dict[str, str]:
    """Where settings of the profile and of the command line are written."""
    profile = variables.get("profile", "")
    tables = {name: overlay.get(name, {}) for name in ("flyte", "store", "cache", "images")}
    layered = {
        f"{name}.{key}": label(("profiles", profile, name, "")) for name, table in tables.items() for key in table
    }
    return {**layered, **{f"flyte.{name}": "the command line" for name in ("project", "domain") if name in variables}}


def _one_default_image(layer: Tables) -> Tables:
    """As in the SDK, `default` is the image named "default": kept in `refs`, where a layer can replace it."""
    images = layer.get("images", {})
    default = {"default": images["default"]} if "default" in images else {}
    return {**layer, "images": {**images, "refs": default | images.get("refs", {})}}


def _variable_problems(variables: Mapping[str, str]) -> Iterator[errors.ManifestError]:
    for name, value in variables.items():
        if name not in VARIABLES:
            yield errors.CommandLineVariableUnknown(name=name, known=VARIABLES)
        elif not value:
            yield errors.CommandLineVariableEmpty(name=name)
        elif value not in CHOICES.get(name, (value,)):
            yield errors.UnknownChoice(place=errors.Place("command line", 0, name), value=value, choices=CHOICES[name])
        elif name == "version":
            for part in unknown_placeholders(value, VERSION_PARTS):
                place = errors.Place("command line", 0, name)
                yield errors.UnknownPlaceholder(place=place, name=part, known=VERSION_PARTS)


def _flyte_config(
    written: Tables, folder: Path, environ: Mapping[str, str], places: Places
) -> tuple[Path | None, Tables]:
    """The Flyte config file that is named, and the layer of settings that it gives."""
    name = written.get("flyte", {}).get("config", "")
    if not name:
        return None, {}
    if name == "auto":
        path = find_flyte_config(folder, environ)
    else:
        path = folder / Path(name).expanduser()
        if not path.is_file():
            raise errors.FlyteConfigMissing(place=places.at("flyte", "config"), file=name)
    return path, read_flyte_config(path, environ)


def _settings_problems(tables: Tables, config: Path | None, places: Places) -> Iterator[errors.ManifestError]:
    endpoint = tables["flyte"].get("endpoint", "")
    if not is_endpoint(endpoint):
        yield errors.BadEndpoint(place=places.at("flyte", "endpoint"), endpoint=endpoint)
    url = tables.get("store", {}).get("url", "")
    if url and not _absolute_url(url, Path()):
        yield errors.BadStoreUrl(place=places.at("store", "url"), url=url)
    registry = tables["images"].get("registry", "")
    if "://" in registry:
        yield errors.BadRegistry(place=places.at("images", "registry"), registry=registry)
    url = tables.get("cache", {}).get("url", "")
    if url and _absolute_url(url, Path()) in ("", "backend"):
        yield errors.BadCacheUrl(place=places.at("cache", "url"), url=url)
    builder = tables["images"].get("builder", "local")
    if builder not in get_args(Builder):  # the manifest's own has been checked
        place = errors.Place(shown(config) if config else "", 0, "image.builder")
        mend = "set `builder` of [images] to `local` or `remote`"
        yield errors.FlyteConfigInvalid(place=place, reason=f"`{builder}` is not a builder that can be used", mend=mend)


def _backend(table: FlyteTable, config: Path | None) -> BackendSettings:
    endpoint = normal_endpoint(table.endpoint)
    return BackendSettings(
        endpoint=endpoint,
        insecure=table.insecure,
        project=table.project,
        domain=table.domain,
        org=table.org or organization_of(endpoint),
        config=str(config or ""),
    )


def _store(table: StoreTable, backend: BackendSettings, folder: Path) -> StoreSettings:
    url = _absolute_url(table.url or "backend", folder)
    if url == "backend" and backend.embedded:
        url = _absolute_url("./.flyte-build/store", folder)
    return StoreSettings(url=url, endpoint_url=table.endpoint_url, region=table.region)


def _cache(table: CacheTable, folder: Path) -> CacheSettings:
    return CacheSettings(
        url=table.url and _absolute_url(table.url, folder),
        read_only=table.read_only,
        endpoint_url=table.endpoint_url,
        region=table.region,
    )


def _absolute_url(url: str, folder: Path) -> str:
    """A store's URL that means the same everywhere, or "" if it is none. A word with a slash is a folder."""
    scheme, separator, rest = url.partition("://")
    if url == "backend":
        return url
    if not separator and "/" in url and ":" not in url.partition("/")[0]:
        scheme, rest = "file", url
    if scheme == "file" and rest.strip("/"):
        return f"file://{os.path.normpath(folder / rest)}"
    return url.rstrip("/") if scheme in _BUCKETS and rest.strip("/") == rest.rstrip("/") != "" else ""


def _images(tables: Tables) -> ImageSettings:
    refs = {name: image for name, image in tables["refs"].items() if image}
    return msgspec.convert({**tables, "refs": refs, "default": refs.get("default", "")}, ImageSettings)
