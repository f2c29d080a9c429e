"""Flyte's own configuration: found and read as the SDK does, without importing the SDK, which a no-op cannot afford."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flyte_build.errors import BadEndpoint, FlyteConfigInvalid, FlyteConfigMissing, Place

_ENTRIES = (
    ("flyte", "endpoint", "admin.endpoint"),
    ("flyte", "insecure", "admin.insecure"),
    ("flyte", "project", "task.project"),
    ("flyte", "domain", "task.domain"),
    ("flyte", "org", "task.org"),
    ("images", "builder", "image.builder"),
    ("images", "registry", "image.registry"),
    ("images", "refs", "image.image_refs"),
)
"""Our table, our key, and Flyte's key, which also gives the name of an environment variable."""

_SCHEMES = ("dns:///", "https://", "http://")

_WORDS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def shown(path: Path) -> str:
    """A path as the user would write it: relative, unless it is somewhere else."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def find_flyte_config(folder: Path, environ: Mapping[str, str]) -> Path | None:
    """The file that `config = "auto"` means. `folder` stands for Flyte's current directory.

    Raises:
        FlyteConfigMissing: an environment variable names a file that is not there.
    """
    checkout = next((up for up in (folder, *folder.parents) if (up / ".git").exists()), None)
    near = [folder / "config.yaml", folder / ".flyte/config.yaml"]
    near += [checkout / ".flyte/config.yaml"] if checkout else []
    for path in near:
        if path.exists():
            return path
    for variable in ("UCTL_CONFIG", "FLYTECTL_CONFIG"):
        if environ.get(variable):
            path = folder / environ[variable]
            if not path.is_file():
                raise FlyteConfigMissing(place=Place(variable, 0, ""), file=environ[variable])
            return path
    home = Path(environ.get("HOME") or Path.home())
    return next((path for path in (home / ".union/config.yaml", home / ".flyte/config.yaml") if path.exists()), None)


def read_flyte_config(path: Path | None, environ: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """What Flyte is configured with, under our names: only the keys that have a value.

    A variable `FLYTE_ADMIN_ENDPOINT` comes before the key `admin.endpoint`, and an empty one hides it. As with the SDK,
    variables count only beside a file, apart from FLYTE_API_KEY, which carries an endpoint and an organization.

    Raises:
        FlyteConfigInvalid: the file is not valid YAML, or a value has the wrong type.
    """
    tables: dict[str, dict[str, Any]] = {"flyte": {}, "images": {}}
    if path is not None:
        document = _document(path)
        for table, key, switch in _ENTRIES:
            value = _checked(key, *_lookup(document, switch, path, environ))
            if value or value is False:
                tables[table][key] = value
    tables["flyte"] |= _from_api_key(environ.get("FLYTE_API_KEY", ""))
    return tables


def is_endpoint(endpoint: str) -> bool:
    """Whether the SDK would take it: no scheme, or one that it knows."""
    return "://" not in endpoint or endpoint.startswith(_SCHEMES)


def normal_endpoint(endpoint: str) -> str:
    """One spelling for one endpoint: `dns:///HOST`, as the SDK has it."""
    prefix = next((scheme for scheme in _SCHEMES if endpoint.startswith(scheme)), "")
    return f"dns:///{endpoint[len(prefix) :]}".removesuffix("/") if endpoint else ""


def organization_of(endpoint: str) -> str:
    """The organization that the SDK takes from a normal endpoint when none is configured: the first of three labels."""
    labels = endpoint.removeprefix("dns:///").split(".")
    return labels[0] if len(labels) > 2 else ""


def _document(path: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(path.read_text())
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        reason = f"not valid YAML: {error.problem}"
        raise FlyteConfigInvalid(
            place=Place(shown(path), line, ""), reason=reason, mend="mend the syntax there"
        ) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = f"cannot be read: {getattr(error, 'strerror', None) or type(error).__name__}"
        mend = "make it a readable YAML file"
        raise FlyteConfigInvalid(place=Place(shown(path), 0, ""), reason=reason, mend=mend) from error


def _lookup(document: Any, switch: str, path: Path, environ: Mapping[str, str]) -> tuple[Any, Place]:
    variable = f"FLYTE_{switch.upper().replace('.', '_')}"
    if variable in environ:
        return environ[variable], Place(variable, 0, "")
    value = document
    for part in switch.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value, Place(shown(path), 0, switch)


def _checked(key: str, value: Any, place: Place) -> Any:
    """The value, if it has the type that its key needs; the SDK lets any pass, and fails later or silently."""
    if value is None or value == "":
        return None
    if key == "insecure":
        word = _WORDS.get(str(value).lower())
        if word is None:
            raise FlyteConfigInvalid(place=place, reason="expected true or false", mend="write `true` or `false`")
        return word
    if key == "refs":
        if not isinstance(value, dict) or not all(isinstance(text, str) for pair in value.items() for text in pair):
            mend = "write lines such as `base: ghcr.io/org/base:v1` in a config file"
            raise FlyteConfigInvalid(place=place, reason="expected a mapping of names to images", mend=mend)
    elif not isinstance(value, str):
        raise FlyteConfigInvalid(place=place, reason="expected text", mend="put it in quotes")
    elif key == "endpoint" and not is_endpoint(value):
        raise BadEndpoint(place=place, endpoint=value)
    return value


def _from_api_key(key: str) -> dict[str, str]:
    if not key:
        return {}
    try:
        endpoint, _client, _secret, org = base64.b64decode(key).decode().split(":", 3)
    except ValueError as error:
        place = Place("FLYTE_API_KEY", 0, "")
        raise FlyteConfigInvalid(place=place, reason="not an API key", mend="correct it, or unset it") from error
    return {"endpoint": endpoint} | ({"org": org} if org and org != "None" else {})
