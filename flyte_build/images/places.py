"""Where a layer's files lie in the build context.

Each layer has a folder of its own, so that what one copies brings along nothing of another's. In it, files keep their
places relative to each other, which projects with local dependencies rely on; the path of the checkout is no part of
them, as it is in the contexts that the SDK makes. Names are escaped, so that a Dockerfile can say each of them.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import quote

from flyte_build.images import layers
from flyte_build.images.layers import Layer

ABOVE = "@above"
"""Stands for the name of a folder above the files in the root, when others lie outside: `../lib` beside it."""
ELSEWHERE = "@machine"
"""Holds what has nothing but `/` in common with the root."""


class Placed(NamedTuple):
    """A layer, and for each path that it names its place in the context."""

    layer: Layer
    places: dict[str, str]


def place(layer: Layer, number: int, root: str) -> Placed:
    """Give a layer's files their places. `number`: the layer's own, from 1."""
    folder = f"layer{number}"
    beside = [posixpath.relpath(path, root) for path in paths_of(layer) if not _is_elsewhere(path, root)]
    depth = max((_ups(path) for path in beside), default=0)
    places = {path: f"{folder}{_inside(path, root, depth)}" for path in paths_of(layer)}
    return Placed(layer, places | _renamed(layer, places))


def _renamed(layer: Layer, places: dict[str, str]) -> dict[str, str]:
    """Places whose last part is not the escaped name: what is copied keeps its own, and pixi knows files by names."""
    match layer:
        case layers.Copy(is_folder=False):
            names = {layer.source: posixpath.basename(layer.source)}
        case layers.PixiProject() if layer.text:
            names = {layer.manifest: "pixi.toml", layer.lock: "pixi.lock"}
        case _:
            names = {}
    return {path: posixpath.join(posixpath.dirname(places[path]), name) for path, name in names.items() if path}


def paths_of(layer: Layer) -> tuple[str, ...]:
    """The files and folders that a layer takes into the context."""
    match layer:
        case layers.Requirements(file=path) | layers.Wheels(folder=path) | layers.Copy(source=path):
            return (path,)
        case layers.CodeBundle(root=path):
            return (path,)
        case layers.UvProject(install=True) | layers.PoetryProject(install=True):
            return (posixpath.dirname(layer.pyproject),)
        case layers.UvProject():
            return tuple(filter(None, (layer.pyproject, layer.lock, *layer.local)))
        case layers.PoetryProject():
            return (layer.pyproject, layer.lock)
        case layers.PixiProject(install=True):
            return (posixpath.dirname(layer.manifest),)
        case layers.PixiProject():
            return tuple(filter(None, (layer.manifest, layer.lock)))
        case layers.UvScript():
            return tuple(path for project in layer.projects for path in paths_of(project))
        case _:
            return ()


def beside_layer(place_: str) -> str:
    """A place without its layer's folder; empty for that folder itself."""
    return place_.partition("/")[2]


def _is_elsewhere(path: str, root: str) -> bool:
    return posixpath.commonpath((path, root)) == "/" != root


def _ups(path: str) -> int:
    parts = path.split("/")
    return next((at for at, part in enumerate(parts) if part != ".."), len(parts))


def _inside(path: str, root: str, depth: int) -> str:
    if _is_elsewhere(path, root):
        return f"/{ELSEWHERE}{_escaped(path.split('/'))}"
    parts = [part for part in posixpath.relpath(path, root).split("/") if part != "."]
    ups = _ups("/".join(parts)) if parts else 0
    return f"/{ABOVE}" * (depth - ups) + _escaped(["", *parts[ups:]])


def _escaped(parts: Iterable[str]) -> str:
    return "/".join(quote(part, safe="+") for part in parts)
