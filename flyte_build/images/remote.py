"""What the backend's image builder is given: the SDK's specification of an image, with paths in our context."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flyte_build import standins
from flyte_build.images import dockerfile, layers
from flyte_build.images.layers import Layer, PipOptions, Recipe, Secret
from flyte_build.images.places import Placed

_PIXI = "/opt/pixi"
"""Where the backend's builder, which cannot copy pixi from an image, installs it."""


def refusal(recipe: Recipe) -> str:
    """Why the backend's builder cannot build an image; empty: it can."""
    if recipe.dockerfile:
        return "it is made by `Image.from_dockerfile`, which only the local builder can build"
    return ""


def spec(recipe: Recipe, placed: Sequence[Placed]) -> bytes:
    """`flyteidl2.imagebuilder.ImageSpec`, serialized; the stand-in of a base that is a reference is in `base_image`."""
    from flyteidl2.imagebuilder import definition_pb2 as idl

    message = idl.ImageSpec(
        base_image=standins.BASE_IMAGE if recipe.base_reference else recipe.base,
        python_version=recipe.python,
        layers=[idl.Layer(**{kind: value}) for each in placed for kind, value in _messages(each.layer, each.places)],
    )
    data: bytes = message.SerializeToString(deterministic=True)
    return data


def _messages(layer: Layer, places: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    """A layer as one or more of the backend's: its kind, and the message. Labels and ignore files have none."""
    from flyteidl2.imagebuilder import definition_pb2 as idl

    match layer:
        case layers.PipPackages() | layers.Requirements() | layers.Wheels() | layers.UvScript() | layers.UvProject():
            yield from _python(layer, places)
        case layers.PoetryProject():
            yield "poetry_project", _poetry(layer, places)
        case layers.PixiProject():
            yield from _pixi(layer, places)
        case layers.Apt():
            yield "apt_packages", idl.AptPackages(packages=layer.packages, secret_mounts=_secrets(layer.secrets))
        case layers.Commands():
            yield "commands", idl.Commands(cmd=layer.commands, secret_mounts=_secrets(layer.secrets))
        case layers.Env():
            yield "env", idl.Env(env_variables=dict(layer.variables))
        case layers.WorkDir():
            yield "workdir", idl.WorkDir(workdir=layer.path)
        case layers.Copy():
            yield "copy_config", idl.CopyConfig(src=places[layer.source], dst=layer.destination)
        case layers.CodeBundle():
            yield "copy_config", idl.CopyConfig(src=places[layer.root], dst=layer.destination)


def _python(layer: Layer, places: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    from flyteidl2.imagebuilder import definition_pb2 as idl

    common = {"secret_mounts": _secrets(layers.secrets_of(layer))}
    match layer:
        case layers.PipPackages():
            yield "pip_packages", idl.PipPackages(packages=layer.packages, options=_options(layer.options), **common)
        case layers.Requirements():
            yield "requirements", idl.Requirements(file=places[layer.file], options=_options(layer.options), **common)
        case layers.Wheels():
            folder, options = places[layer.folder], _options(layer.options)
            yield "python_wheels", idl.PythonWheels(dir=folder, package_name=layer.package, options=options, **common)
        case layers.UvScript():
            if layer.projects:
                yield "apt_packages", idl.AptPackages(packages=["git"])
            for project in layer.projects:
                at = places[posixpath.dirname(project.pyproject)]
                locked, options = f"{at}/uv.lock" if project.lock else "", _options(layer.options)
                yield "uv_project", idl.UVProject(pyproject=at, uvlock=locked, options=options, **common)
            if layer.packages:
                options = _options(layer.options)
                yield "pip_packages", idl.PipPackages(packages=layer.packages, options=options, **common)
        case layers.UvProject():
            yield "uv_project", _uv_project(layer, places)


def _uv_project(layer: layers.UvProject, places: Mapping[str, str]) -> Any:
    from flyteidl2.imagebuilder import definition_pb2 as idl

    options = layer.options
    if layer.install:
        folder = places[posixpath.dirname(layer.pyproject)]
        lock, source = f"{folder}/uv.lock" if layer.lock else "", folder
    else:
        folder = posixpath.dirname(places[layer.pyproject])
        lock = places[layer.lock] if layer.lock else ""
        source = posixpath.commonpath([folder, *(places[path] for path in layer.local)])
    extra = options.extra_args
    if not layer.install and "--no-install-project" not in extra:
        extra = f"{extra} --no-install-project".strip()
    return idl.UVProject(
        pyproject=folder,
        uvlock=lock,
        source_dir=source,
        options=_options(options, extra),
        secret_mounts=_secrets(options.secrets),
    )


def _poetry(layer: layers.PoetryProject, places: Mapping[str, str]) -> Any:
    from flyteidl2.imagebuilder import definition_pb2 as idl

    extra = layer.extra_args
    if layer.install:
        pyproject = places[posixpath.dirname(layer.pyproject)]
        lock = f"{pyproject}/poetry.lock"
    else:
        pyproject, lock = places[layer.pyproject], places[layer.lock]
        extra = extra if "--no-root" in extra else f"{extra} --no-root"
    return idl.PoetryProject(
        pyproject=pyproject, poetry_lock=lock, extra_args=extra, secret_mounts=_secrets(layer.secrets)
    )


def _pixi(layer: layers.PixiProject, places: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    """The backend has no such layer: what it has is put together to the same effect, as the SDK does."""
    from flyteidl2.imagebuilder import definition_pb2 as idl

    manifest = f"{dockerfile.PIXI_FOLDER}/{layer.name}"
    version = dockerfile.PIXI.rpartition(":")[2]
    settings = f"PIXI_HOME={_PIXI} PIXI_VERSION=v{version} PIXI_NO_PATH_UPDATE=1"
    fetch = f"curl -fsSL https://pixi.sh/install.sh | {settings} bash"
    install = [f"{_PIXI}/bin/pixi install", f"--manifest-path {manifest}", f"--environment {layer.environment}"]
    yield "apt_packages", idl.AptPackages(packages=["curl", "ca-certificates", "bzip2", "git"])
    yield "commands", idl.Commands(cmd=[f"if [ ! -x {_PIXI}/bin/pixi ]; then {fetch}; fi"])
    if layer.install:
        folder = places[posixpath.dirname(layer.manifest)]
        yield "copy_config", idl.CopyConfig(src=folder, dst=dockerfile.PIXI_FOLDER)
    else:
        yield "copy_config", idl.CopyConfig(src=places[layer.manifest], dst=manifest)
        if layer.lock:
            yield "copy_config", idl.CopyConfig(src=places[layer.lock], dst=f"{dockerfile.PIXI_FOLDER}/pixi.lock")
    words = " ".join([*install, *layer.arguments()])
    yield "commands", idl.Commands(cmd=[words], secret_mounts=_secrets(layer.secrets))
    yield "env", idl.Env(env_variables=dockerfile.pixi_variables(layer, _PIXI))


def _options(options: PipOptions, extra_args: str | None = None) -> Any:
    from flyteidl2.imagebuilder import definition_pb2 as idl

    return idl.PipOptions(
        index_url=options.index_url,
        extra_index_urls=options.extra_index_urls,
        pre=options.pre,
        extra_args=options.extra_args if extra_args is None else extra_args,
    )


def _secrets(secrets: Sequence[Secret]) -> list[Any]:
    from flyteidl2.core import security_pb2

    kinds = security_pb2.Secret.MountType
    return [
        security_pb2.Secret(
            key=each.key,
            group=each.group,
            env_var=each.variable,
            mount_requirement=kinds.ENV_VAR if each.variable else kinds.FILE,
        )
        for each in secrets
    ]
