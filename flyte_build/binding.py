"""Binding: drafts become messages, by putting values in the place of stand-ins."""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flyte_build import standins
from flyte_build.model import Value

if TYPE_CHECKING:
    from google.protobuf.message import Message

_STANDIN = re.compile(re.escape(standins.MARK) + r"[^\]]*\]\]")
ACTOR = "actor"
"""Task type of a reusable environment, whose spec has a version computed from the rest."""


class Binding(Value, frozen=True):
    """The values that one deployment puts into its drafts."""

    version: str
    project: str
    domain: str
    org: str
    images: dict[str, str]
    """Environment -> URI."""
    bundle_uri: str = ""
    bundle_version: str = ""
    """What the SDK calls the bundle's computed version: it enters the version of reusable containers."""

    def values(self) -> dict[str, str]:
        """Stand-in -> value."""
        return {
            standins.VERSION: self.version,
            standins.PROJECT: self.project,
            standins.DOMAIN: self.domain,
            standins.ORG: self.org,
            standins.BUNDLE: self.bundle_uri,
            standins.BUNDLE_VERSION: self.bundle_version,
            standins.IMAGE_CACHE: image_cache_argument(self.images),
            **{standins.image(environment): uri for environment, uri in self.images.items()},
        }


def image_cache_argument(images: Mapping[str, str]) -> str:
    """The image cache as tasks are given it on their command line, byte for byte the SDK's."""
    text = json.dumps({"image_lookup": images, "build_run_ids": {}}, separators=(",", ":"), ensure_ascii=False)
    packed = io.BytesIO()
    # Not `gzip.compress`, whose header differs.
    with gzip.GzipFile(mode="wb", fileobj=packed, mtime=0) as file:
        file.write(text.encode())
    return base64.b64encode(packed.getvalue()).decode()


def replace_standins(message: Message, values: Mapping[str, str]) -> None:
    """Replace every stand-in in a message, in place, in nested messages, lists and maps too.

    Raises:
        KeyError: a stand-in has no value; that is a bug.
    """
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            _replace_in_map(field, value, values)
        elif field.cpp_type == field.CPPTYPE_MESSAGE:
            for item in value if _repeated(field) else (value,):
                replace_standins(item, values)
        elif field.cpp_type == field.CPPTYPE_STRING and field.type == field.TYPE_STRING:
            _replace_in_strings(message, field, value, values)


def _replace_in_map(field: Any, value: Any, values: Mapping[str, str]) -> None:
    kind = field.message_type.fields_by_name["value"]
    for key in list(value):
        if kind.cpp_type == kind.CPPTYPE_MESSAGE:
            replace_standins(value[key], values)
        elif kind.type == kind.TYPE_STRING and standins.MARK in value[key]:
            value[key] = bound(value[key], values)


def _replace_in_strings(message: Message, field: Any, value: Any, values: Mapping[str, str]) -> None:
    if not _repeated(field):
        if standins.MARK in value:
            setattr(message, field.name, bound(value, values))
        return
    for index, text in enumerate(value):
        if standins.MARK in text:
            value[index] = bound(text, values)


def _repeated(field: Any) -> bool:
    return bool(field.is_repeated if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED)


def bound(text: str, values: Mapping[str, str]) -> str:
    """A text with its stand-ins replaced."""
    return _STANDIN.sub(lambda match: values[match.group()], text)
