"""Reads the SDK's images: an `Image` with its layers becomes a `Recipe`, a frozen value."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from flyte import Image, Secret
from flyte import _image as sdk
from flyte._utils import parse_uv_script_file

from flyte_build.errors import ImageLayerInvalid, ImageUnnamed, ImageWithoutBase
from flyte_build.images import layers
from flyte_build.images.context import Seen
from flyte_build.images.layers import Layer, PipOptions, Recipe

DEFAULT_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
"""Version that an image has when the code names none."""


CodeFiles = Callable[[str], tuple[str, ...]]
"""Gives the files that `with_code_bundle` means, by its `copy_style`, relative to the root."""


def read_recipe(image: Image, root: Path, code: CodeFiles, seen: Seen) -> Recipe:
    """What an image is made of. Relative paths start from `root`, the target's. Scripts are noted in `seen`.

    Raises:
        ImageError: it has no name or base, a layer is not known, or a script that a layer reads has no sense.
    """
    if image.dockerfile is None and image._ref_name is None and not image.base_image:
        raise ImageWithoutBase()
    if not image.name:
        raise ImageUnnamed()
    secret = image._image_registry_secret
    # as the SDK resolves them, code bundles come after all other layers
    last = [layer for layer in image._layers if isinstance(layer, sdk.CodeBundleLayer)]
    first = [layer for layer in image._layers if not isinstance(layer, sdk.CodeBundleLayer)]
    return Recipe(
        name=image.name,
        registry=image.registry or "",
        registry_secret=_secrets([secret])[0].build_secret() if secret else None,
        platforms=tuple(sorted(set(image.platform))),
        python=".".join(map(str, image.python_version)),
        base="" if image._ref_name else image.base_image or "",
        base_reference=image._ref_name or "",
        dockerfile="" if image.dockerfile is None else _absolute(image.dockerfile, root),
        layers=(
            *(_layer(layer, root, seen) for layer in first),
            *(layers.CodeBundle(root=str(root), files=code(each.copy_style), destination=each.dst) for each in last),
        ),
        creates_user=any(
            isinstance(layer, sdk.Commands) and sdk._CREATE_FLYTE_USER_CMD in layer.commands for layer in first
        ),
        is_preset=image._tag is not None,
    )


def sdk_tag(image: Image) -> str:
    """The SDK's own tag of an image."""
    return image._final_tag


def _layer(layer: Any, root: Path, seen: Seen) -> Layer:
    match layer:
        case sdk.PipOption():
            return _with_pip_options(layer, root, seen)
        case sdk.PoetryProject() | sdk.PixiProject() | sdk.PixiScript():
            return _with_own_options(layer, root, seen)
        case sdk.AptPackages():
            return layers.Apt(packages=layer.packages, secrets=_secrets(layer.secret_mounts))
        case sdk.Commands():
            return layers.Commands(commands=layer.commands, secrets=_secrets(layer.secret_mounts))
        case sdk.Env():
            return layers.Env(variables=tuple((str(name), str(value)) for name, value in layer.env_vars))
        case sdk.WorkDir():
            return layers.WorkDir(path=layer.workdir)
        case sdk.CopyConfig():
            source, is_folder = _absolute(layer.src, root), layer.path_type == 1
            return layers.Copy(source=source, destination=str(layer.dst), is_folder=is_folder)
        case sdk.DockerIgnore():
            return layers.DockerIgnore(path=_absolute(layer.path, root))
        case sdk._DockerLines():
            return layers.Lines(lines=layer.lines)
    raise _unknown(layer)


def _with_pip_options(layer: Any, root: Path, seen: Seen) -> Layer:
    options = PipOptions(
        index_url=layer.index_url or "",
        extra_index_urls=_texts(layer.extra_index_urls),
        pre=layer.pre,
        extra_args=layer.extra_args or "",
        secrets=_secrets(layer.secret_mounts),
    )
    match layer:
        case sdk.Requirements():
            return layers.Requirements(file=_absolute(layer.file, root), options=options)
        case sdk.PipPackages():
            return layers.PipPackages(packages=layer.packages or (), options=options)
        case sdk.PythonWheels():
            return layers.Wheels(folder=_absolute(layer.wheel_dir, root), package=layer.package_name, options=options)
        case sdk.UVProject():
            return layers.UvProject(
                pyproject=_absolute(layer.pyproject, root),
                lock="" if layer.uvlock is None else _absolute(layer.uvlock, root),
                install=layer.project_install_mode == "install_project",
                options=options,
            )
        case sdk.UVScript():
            return _uv_script(layer, options, root, seen)
    raise _unknown(layer)


def _uv_script(layer: Any, options: PipOptions, root: Path, seen: Seen) -> layers.UvScript:
    script = _absolute(layer.script, root)
    seen.read(script)
    try:
        header = parse_uv_script_file(Path(script))
    except ValueError as error:
        raise _senseless(script, error) from error
    return layers.UvScript(
        script=script,
        packages=tuple(header.dependencies),
        projects=tuple(_script_project(path, options, root, seen) for path in header.pyprojects),
        options=options,
    )


def _script_project(path: str, options: PipOptions, root: Path, seen: Seen) -> layers.UvProject:
    folder = _absolute(path, root)
    lock = f"{folder}/uv.lock"
    # as the SDK has it, the script's indexes are not those of its projects
    own = PipOptions(pre=options.pre, extra_args=options.extra_args, secrets=options.secrets)
    lock = "" if seen.read_if_there(lock) is None else lock
    return layers.UvProject(pyproject=f"{folder}/pyproject.toml", lock=lock, install=True, options=own)


def _with_own_options(layer: Any, root: Path, seen: Seen) -> Layer:
    match layer:
        case sdk.PoetryProject():
            return layers.PoetryProject(
                pyproject=_absolute(layer.pyproject, root),
                lock=_absolute(layer.poetry_lock, root),
                install=layer.project_install_mode == "install_project",
                extra_args=layer.extra_args or "",
                secrets=_secrets(layer.secret_mounts),
            )
        case sdk.PixiProject():
            manifest, text = _absolute(layer.manifest, root), ""
        case _:
            manifest = _absolute(layer.script, root)
            text = _pixi_manifest(layer, manifest, seen)
    return layers.PixiProject(
        manifest=manifest,
        text=text,
        lock="" if layer.pixi_lock is None else _absolute(layer.pixi_lock, root),
        environment=layer.environment,
        install=getattr(layer, "project_install_mode", "") == "install_project",
        extra_args=layer.extra_args or "",
        secrets=_secrets(layer.secret_mounts),
    )


def _pixi_manifest(layer: Any, script: str, seen: Seen) -> str:
    seen.read(script)
    seen.read_if_there(f"{script}.pixi.lock")
    try:
        layer.validate()
        text: str = layer.render_manifest()
    except ValueError as error:
        raise _senseless(script, error) from error
    return text


def _absolute(path: Any, root: Path) -> str:
    """A path without links above the root, so that it is below the root when what it names is."""
    absolute = os.path.normpath(os.path.join(root, os.fspath(path)))
    if absolute == str(root) or absolute.startswith(os.path.join(root, "")):
        return absolute
    real = os.path.join(os.path.realpath(os.path.dirname(absolute)), os.path.basename(absolute))
    return real if real.startswith(os.path.join(root, "")) else absolute


def _texts(given: Any) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given or ())


def _secrets(given: Iterable[str | Secret] | None) -> tuple[layers.Secret, ...]:
    found = (Secret(key=each) if isinstance(each, str) else each for each in given or ())
    return tuple(
        layers.Secret(
            key=each.key,
            group=each.group or "",
            variable=each.as_env_var or "",
            mount=str(each.mount) if each.mount else "",
        )
        for each in found
    )


def _senseless(path: str, error: ValueError) -> ImageLayerInvalid:
    return ImageLayerInvalid(reason=f"`{path}`: {error}", mend="mend the header of that script")


def _unknown(layer: Any) -> ImageLayerInvalid:
    reason = f"it has a layer of the kind `{type(layer).__name__}`, which flyte_build does not know"
    return ImageLayerInvalid(reason=reason, mend="build it with `flyte build`, and name it by its URI")
