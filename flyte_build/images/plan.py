"""Plan an image: from its recipe to the value that building it needs, with the context kept in the state folder."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterator
from typing import NamedTuple

from msgspec.structs import replace

from flyte_build.errors import ImageFileMissing, ImageLayerInvalid, ImageSourceEmpty
from flyte_build.images import dockerfile, layers, remote
from flyte_build.images.context import Member, Seen, Tree, Written, keep, walk
from flyte_build.images.dockerignore import Rules, parse
from flyte_build.images.exact import sdk_tag_is_exact
from flyte_build.images.layers import Layer, Recipe
from flyte_build.images.local import local_dependencies
from flyte_build.images.places import Placed, place
from flyte_build.model import ImageBuild
from flyte_build.state.folder import StateFolder

_LOCAL = """
.git
.cache
**/.*_cache
**/.idea
**/.venv
venv
env
.env
build
dist
**/*.egg-info
*.egg
*.log
*.whl
"""
"""What is not copied of a local dependency: it is built anew in the image."""


class Surroundings(NamedTuple):
    """Where images are planned."""

    root: str
    """The target's, absolute and without links."""
    state: StateFolder
    seen: Seen
    python: str
    """Version that the SDK takes when the code names none."""


class _Ignore(NamedTuple):
    file: str
    """Absolute path; empty: there is none."""
    rules: Rules


def plan(recipe: Recipe, around: Surroundings, sdk_tag: Callable[[], str]) -> ImageBuild:
    """Plan one image. `sdk_tag` gives the SDK's own tag of it.

    Raises:
        ImageError: a file is missing or cannot be in a context, or a layer cannot be built.
        StateUnwritable
    """
    if recipe.dockerfile:
        return _of_dockerfile(recipe, around)
    recipe = replace(recipe, layers=tuple(_with_local(layer, around.seen) for layer in recipe.layers))
    placed = [place(layer, number, around.root) for number, layer in enumerate(recipe.layers, 1)]
    ignore = _ignore_of(recipe, around)
    context = keep(dict(_members(placed, ignore, around)), around.seen, around.state)
    files = [layer.file for layer in recipe.layers if isinstance(layer, layers.Requirements)]
    requirements = around.seen.read(files[0]) if files else b""
    is_exact = sdk_tag_is_exact(recipe, requirements, python=around.python)
    return _build(
        recipe,
        dockerfile.render(recipe, placed),
        context,
        exact_tag=sdk_tag() if is_exact else "",
        remote_spec=remote.spec(recipe, placed),
    )


def _build(recipe: Recipe, text: str, context: Written, *, exact_tag: str = "", remote_spec: bytes = b"") -> ImageBuild:
    return ImageBuild(
        name=recipe.name,
        registry=recipe.registry,
        registry_secret=recipe.registry_secret,
        dockerfile=text,
        platforms=recipe.platforms,
        context=context.digest,
        context_files=context.files,
        context_size=context.size,
        secrets=layers.build_secrets(recipe.layers),
        base_reference=recipe.base_reference,
        exact_tag=exact_tag,
        remote_spec=remote_spec,
        remote_refusal=remote.refusal(recipe),
    )


def _of_dockerfile(recipe: Recipe, around: Surroundings) -> ImageBuild:
    """The user's own Dockerfile; its folder is the context."""
    seen, folder = around.seen, posixpath.dirname(recipe.dockerfile)
    text = _text(recipe.dockerfile, seen.read(recipe.dockerfile))
    ignore = _first_ignore((f"{recipe.dockerfile}.dockerignore", f"{folder}/.dockerignore"), seen)
    members = dict(walk(folder, Tree(ignore.rules, is_docker_folder=True), seen))
    return _build(recipe, text, keep(members, seen, around.state))


# --- which rules


def _ignore_of(recipe: Recipe, around: Surroundings) -> _Ignore:
    """The ignore file that counts: the last that a layer names, else the root's."""
    named = [layer.path for layer in recipe.layers if isinstance(layer, layers.DockerIgnore)]
    for path in named:
        around.seen.require_file(path)
    return _first_ignore(named[-1:] or [f"{around.root}/.dockerignore"], around.seen)


def _first_ignore(paths: list[str] | tuple[str, ...], seen: Seen) -> _Ignore:
    for path in paths:
        data = seen.read_if_there(path)
        if data is not None:
            return _Ignore(path, parse(_text(path, data)))
    return _Ignore("", Rules())


def _text(path: str, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ImageLayerInvalid(reason=f"`{path}` is not UTF-8", mend="save it as UTF-8") from error


# --- which files


def _with_local(layer: Layer, seen: Seen) -> Layer:
    """A uv project with the folders that it depends on, which its files tell."""
    if not isinstance(layer, layers.UvProject) or layer.install:
        return layer
    seen.require_file(layer.pyproject)
    return replace(layer, local=local_dependencies(layer.pyproject, layer.lock, seen.read))


def _members(placed: list[Placed], ignore: _Ignore, around: Surroundings) -> Iterator[tuple[str, Member]]:
    for layer, places in placed:
        for path, at in places.items():
            yield from _members_at(layer, path, at, ignore, around)


def _members_at(
    layer: Layer, path: str, at: str, ignore: _Ignore, around: Surroundings
) -> Iterator[tuple[str, Member]]:
    """What a layer takes from one path."""
    seen = around.seen
    match layer:
        case layers.Wheels():
            found = [(name, member) for name, member in walk(path, Tree(Rules()), seen) if name.endswith(".whl")]
            yield from _below(at, path, found)
        case layers.CodeBundle():
            names = [name for name in layer.files if not ignore.rules.leaves_out(name)]
            yield from _below(at, path, [(name, Member(source=f"{path}/{name}")) for name in names], ignore.file)
        case layers.Copy(is_folder=True):
            yield from _below(at, path, list(walk(path, _tree(path, ignore, around), seen)), ignore.file)
        case layers.UvProject(install=True) | layers.PoetryProject(install=True) | layers.PixiProject(install=True):
            yield from _project(layer, path, at, ignore, around)
        case layers.UvScript():
            for project in layer.projects:
                if posixpath.dirname(project.pyproject) == path:
                    yield from _project(project, path, at, ignore, around)
        case layers.UvProject() if path in layer.local:
            rules = Rules((*parse(_LOCAL).lines, *ignore.rules.lines))
            yield from _below(at, path, list(walk(path, Tree(rules), seen)), ignore.file)
        case layers.PixiProject() if path == layer.manifest and layer.text:
            seen.read(path)
            yield at, Member(text=layer.text.encode())
        case _:
            seen.require_file(path)
            yield at, Member(source=path)


def _project(
    layer: layers.UvProject | layers.PoetryProject | layers.PixiProject,
    folder: str,
    at: str,
    ignore: _Ignore,
    around: Surroundings,
) -> Iterator[tuple[str, Member]]:
    """A whole project. Its manifest and its lock are always part of it, and those that the code names."""
    match layer:
        case layers.PixiProject():
            own = {layer.name: layer.manifest, "pixi.lock": layer.lock}
        case layers.PoetryProject():
            own = {"pyproject.toml": layer.pyproject, "poetry.lock": layer.lock}
        case layers.UvProject():
            own = {"pyproject.toml": layer.pyproject, "uv.lock": layer.lock}
    for path in filter(None, own.values()):
        around.seen.require_file(path)
    yield from _below(at, folder, list(walk(folder, _tree(folder, ignore, around), around.seen)))
    yield from ((f"{at}/{name}", Member(source=path)) for name, path in own.items() if path)


def _tree(folder: str, ignore: _Ignore, around: Surroundings) -> Tree:
    """Patterns start from the root; for a folder outside it, from that folder."""
    below = posixpath.relpath(folder, around.root)
    return Tree(ignore.rules, "" if below == "." or below.startswith("..") else below)


def _below(
    at: str, folder: str, found: list[tuple[str, Member]], ignore_file: str = ""
) -> Iterator[tuple[str, Member]]:
    """Members at their places. A folder of which nothing is left is a mistake: no instruction could copy it."""
    if not found:
        if not os.path.isdir(folder):
            raise ImageFileMissing(kind="folder", path=folder)
        raise ImageSourceEmpty(path=folder, ignore_file=ignore_file)
    yield from ((f"{at}/{name}", member) for name, member in found)
