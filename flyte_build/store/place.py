"""Where a store's URL leads, as far as the manifest does not say it: what the clients take from variables and files.

A change of it sends bundles elsewhere under the same URL. Credentials that say no more than who sends them are no part
of it. The clients are not asked: importing one takes longer than a deploy that has nothing to do.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from typing import Any

import msgspec

from flyte_build.model import StoreSettings

_AZURE = (
    *("azure_storage_account_name", "azure_storage_endpoint", "azure_endpoint", "azure_use_fabric_endpoint"),
    *("azure_storage_use_emulator", "azurite_blob_storage_url"),
)
_GOOGLE = ("google_base_url",)
_GOOGLE_ACCOUNTS = ("google_service_account", "google_service_account_path", "service_account")
"""Name a file that may hold an address, too."""
_UNREADABLE = "cannot be read"


class _Account(msgspec.Struct):
    gcs_base_url: str = ""


def redirections(settings: StoreSettings, environ: Mapping[str, str]) -> dict[str, str]:
    """Name of a setting -> value, for those by which the same `settings` mean another place. Asks no network."""
    scheme = settings.url.partition("://")[0]
    if scheme in ("abfs", "abfss"):
        return _set(_AZURE, environ)
    if settings.endpoint_url:
        return {}
    if scheme == "gs":
        return _set(_GOOGLE, environ) | _of_google_account(environ)
    return _of_s3(settings, environ) if scheme == "s3" else {}


def _set(names: tuple[str, ...], environ: Mapping[str, str]) -> dict[str, str]:
    """Variables as obstore finds them: capital letters count in the first word only."""
    found = {name.lower(): value for name, value in environ.items() if name.partition("_")[0].isupper()}
    return {name: found[name] for name in names if found.get(name)}


def _of_google_account(environ: Mapping[str, str]) -> dict[str, str]:
    found = _set((*_GOOGLE_ACCOUNTS, "google_service_account_key"), environ)
    try:
        text = next((_read(found[name]) for name in _GOOGLE_ACCOUNTS if name in found), None)
        address = msgspec.json.decode(text or found.get("google_service_account_key", "{}"), type=_Account).gcs_base_url
    except (OSError, msgspec.DecodeError):
        return {"service account": _UNREADABLE}
    return {"gcs_base_url": address} if address else {}


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


# --- S3, in the order in which botocore looks


def _of_s3(settings: StoreSettings, environ: Mapping[str, str]) -> dict[str, str]:
    from configparser import Error

    try:
        profile, services = _profile(environ)
    except (Error, ValueError):
        return {"profile": _UNREADABLE}
    endpoint = _endpoint(environ, profile, services)
    if endpoint:
        return {"endpoint_url": endpoint}
    region = settings.region or environ.get("AWS_DEFAULT_REGION") or profile.get("region", "")
    return {"region": region} if region and not settings.region else {}


def _endpoint(environ: Mapping[str, str], profile: dict[str, str], services: dict[str, str]) -> str:
    ignored = environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", profile.get("ignore_configured_endpoint_urls", ""))
    if ignored.lower() == "true":
        return ""
    named = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")
    return named or _nested(services.get("s3", "")).get("endpoint_url") or profile.get("endpoint_url", "")


def _profile(environ: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The profile in use, and the section of services that it names."""
    config = _sections(environ.get("AWS_CONFIG_FILE", "~/.aws/config"))
    credentials = _sections(environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"))
    name = environ.get("AWS_DEFAULT_PROFILE") or environ.get("AWS_PROFILE") or "default"
    profile = {**_named(config, "profile").get(name, {}), **credentials.get(name, {})}
    return profile, _named(config, "services").get(profile.get("services", ""), {})


def _named(config: dict[str, dict[str, str]], kind: str) -> dict[str, dict[str, str]]:
    """The sections `[KIND NAME]`, by name; `[default]` is a profile."""
    found = {}
    for section, values in config.items():
        words = _words(section)
        if section == "default" and kind == "profile":
            found[section] = values
        elif len(words) == 2 and words[0] == kind:
            found[words[1]] = values
    return found


def _words(section: str) -> list[str]:
    try:
        return shlex.split(section)
    except ValueError:  # a quotation mark without its other one
        return []


def _sections(path: str) -> dict[str, dict[str, str]]:
    from configparser import RawConfigParser

    parser = RawConfigParser()
    parser.read(os.path.expanduser(os.path.expandvars(path)))
    return {section: dict(parser[section]) for section in parser.sections()}


def _nested(block: str) -> dict[str, str]:
    pairs: Any = (line.partition("=") for line in block.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
