"""The Dockerfile of an image: instructions that make the same image as the SDK's do, from layers in their places.

Where the two differ, the SDK's text would depend on the machine or say something else than the code:

- Paths in the context are those of `places`: the SDK's hold the path of the checkout.
- Ids of secrets are digests of group and key alone: the SDK's mix in what the secret is mounted as.
- Values of variables are quoted: the SDK's end at the first space.
- A poetry layer's secrets are given to the build, too.
"""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence

from flyte_build import standins
from flyte_build.errors import ImageLayerInvalid
from flyte_build.images import layers
from flyte_build.images.layers import PipOptions, Recipe, Secret
from flyte_build.images.places import Placed, beside_layer

FRONTEND = "docker/dockerfile:1.10"
UV = "ghcr.io/astral-sh/uv:0.13.4"
PIXI = "ghcr.io/prefix-dev/pixi:0.72.2"
"""Images that a build takes tools from: the newest SDK's versions, with any SDK, so that an update rebuilds nothing."""

PIXI_FOLDER = "/opt/pixi-project"
"""Where a pixi project lies in the image."""
_PROJECTS = "/root/.flyte"
"""Where a project is mounted while it is installed."""
_VENV = "VIRTUAL_ENV=${VIRTUAL_ENV-/opt/venv}"


def render(recipe: Recipe, placed: Sequence[Placed]) -> str:
    """The text, with stand-ins for the image's URI and for a base that is a reference.

    Raises:
        ImageLayerInvalid: a layer says what no Dockerfile can.
    """
    base = standins.BASE_IMAGE if recipe.base_reference else recipe.base
    instructions = [*_head(base, recipe.python), *(line for each in placed for line in _instructions(each))]
    if recipe.creates_user:
        instructions += ["USER flyte", "WORKDIR /home/flyte"]
    instructions += [f"ENV _F_IMG_ID={standins.IMAGE_URI}", 'SHELL ["/bin/bash", "-c"]']
    return "\n".join(instructions) + "\n"


def _head(base: str, python: str) -> Iterator[str]:
    yield f"# syntax={FRONTEND}"
    yield f"FROM {UV} AS uv"
    yield f"FROM {base}"
    yield "USER root"
    yield "COPY --from=uv /uv /usr/bin/uv"
    yield "ARG VIRTUALENV=/opt/venv"
    yield "ARG UV_PYTHON=$VIRTUALENV/bin/python"
    yield _env("UV_COMPILE_BYTECODE=1", "UV_LINK_MODE=copy", "VIRTUALENV=$VIRTUALENV", "UV_PYTHON=$UV_PYTHON")
    create = f"uv venv $VIRTUALENV --python={python}"
    compile_ = "uv run --python=$UV_PYTHON python -m compileall $VIRTUALENV"
    yield f'RUN if [ ! -f "$UV_PYTHON" ]; then {create} && {compile_}; fi'
    yield _env('PATH="$VIRTUALENV/bin:$PATH"')
    yield _env('PATH="$PATH:/usr/local/nvidia/bin:/usr/local/cuda/bin"', 'LD_LIBRARY_PATH="/usr/local/nvidia/lib64"')


def _instructions(placed: Placed) -> Iterator[str]:
    layer, places = placed
    match layer:
        case layers.PipPackages() | layers.Requirements() | layers.Wheels() | layers.UvScript() | layers.UvProject():
            yield from _with_uv(placed)
        case layers.PoetryProject():
            yield from _poetry(layer, places)
        case layers.PixiProject():
            yield from _pixi(layer, places)
        case layers.Apt():
            yield _apt(layer)
        case layers.Commands():
            prefix = "".join(f"{mount} " for mount in _secret_mounts(layer.secrets))
            yield from (f"RUN {prefix}{command}" for command in layer.commands)
        case layers.Env():
            yield from (_env(f"{name}={env_value(name, value)}") for name, value in layer.variables)
        case layers.WorkDir():
            yield f"WORKDIR {layer.path}"
        case layers.Copy():
            yield _copy(places[layer.source], layer.destination, owner="flyte:flyte")
        case layers.CodeBundle():
            yield _copy(places[layer.root], layer.destination, owner="flyte:flyte")
        case layers.DockerIgnore():
            pass  # counts while files are chosen
        case layers.Lines():
            yield from layer.lines


def _with_uv(placed: Placed) -> Iterator[str]:
    layer, places = placed
    match layer:
        case layers.PipPackages():
            yield _pip(layer.options, " ".join(map(shlex.quote, layer.packages)))
        case layers.Requirements():
            mount = _bind(places[layer.file], "requirements.txt")
            yield _pip(layer.options, "--requirement requirements.txt", mount)
        case layers.Wheels():
            # first what the package needs, from the index; then itself, from the folder alone
            for words in ("--find-links /dist", "--find-links /dist --no-deps --no-index --reinstall"):
                mount = _bind(places[layer.folder], "/dist")
                yield _pip(layer.options, f"{words} {layer.package}", mount, cache="wheel")
        case layers.UvScript():
            if layer.packages:
                yield _pip(layer.options, " ".join(map(shlex.quote, layer.packages)))
            if layer.projects:
                yield _apt(layers.Apt(packages=("git",)))  # versions may be taken from tags
                yield from (_uv_sync(project, places) for project in layer.projects)
        case layers.UvProject():
            yield _uv_sync(layer, places)


def _pip(options: PipOptions, words: str, *mounts: str, cache: str = "uv") -> str:
    arguments = " ".join([*options.arguments(), words])
    cached = _cache("/root/.cache/uv", cache)
    return _run([cached, *mounts, *_secret_mounts(options.secrets)], f"uv pip install --python $UV_PYTHON {arguments}")


def _uv_sync(layer: layers.UvProject, places: Mapping[str, str]) -> str:
    arguments = layer.options.arguments()
    secrets = _secret_mounts(layer.options.secrets)
    folder = posixpath.dirname(layer.pyproject)
    sync = f"{_VENV} uv sync --active --inexact"
    if layer.install:
        project = _mounted(places[folder])
        words = " ".join([sync, "--no-editable", *arguments, f"--project {project}"])
        return _run([_cache("/root/.cache/uv", "uv"), _bind(places[folder], project, "rw"), *secrets], words)
    if "--no-install-project" not in layer.options.extra_args:
        arguments = [*arguments, "--no-install-project"]
    lock = [_bind(places[layer.lock], "uv.lock", "rw")] if layer.lock else []
    local = [_bind(places[path], posixpath.relpath(path, folder), "rw") for path in layer.local]
    mounts = [*lock, _bind(places[layer.pyproject], "pyproject.toml"), *local, *secrets]
    return _run([_cache("/root/.cache/uv", "uv"), *mounts], " ".join([sync, *arguments]))


def _poetry(layer: layers.PoetryProject, places: Mapping[str, str]) -> Iterator[str]:
    yield _run([_cache("/root/.cache/uv", "uv")], "uv pip install poetry")
    in_project = [] if layer.install else ["POETRY_VIRTUALENVS_IN_PROJECT=true"]
    yield _env("POETRY_CACHE_DIR=/tmp/poetry_cache", *in_project)
    words = [f"{_VENV} poetry install", *([layer.extra_args] if layer.extra_args else [])]
    if layer.install:
        folder = places[posixpath.dirname(layer.pyproject)]
        mounts = [_bind(folder, _mounted(folder), "rw")]
        words.append(f"-C {_mounted(folder)}")
    else:
        mounts = [_bind(places[layer.lock], "poetry.lock"), _bind(places[layer.pyproject], "pyproject.toml")]
        words += [] if "--no-root" in layer.extra_args else ["--no-root"]
    yield _run([_cache("/tmp/poetry_cache", "poetry"), *mounts, *_secret_mounts(layer.secrets)], " ".join(words))  # noqa: S108


def _pixi(layer: layers.PixiProject, places: Mapping[str, str]) -> Iterator[str]:
    yield f"COPY --from={PIXI} /usr/local/bin/pixi /usr/local/bin/pixi"
    manifest = f"{PIXI_FOLDER}/{layer.name}"
    if layer.install:
        yield _copy(places[posixpath.dirname(layer.manifest)], PIXI_FOLDER)
    else:
        yield _copy(places[layer.manifest], manifest)
        if layer.lock:
            yield _copy(places[layer.lock], f"{PIXI_FOLDER}/pixi.lock")
    words = [f"pixi install --manifest-path {manifest} --environment {layer.environment}", *layer.arguments()]
    yield _run([_cache("/root/.cache/rattler", "pixi"), *_secret_mounts(layer.secrets)], " ".join(words))
    yield _env(*(f"{name}={value}" for name, value in pixi_variables(layer, "").items()))


def pixi_variables(layer: layers.PixiProject, pixi_folder: str) -> dict[str, str]:
    """What makes a pixi environment the one that tasks and later layers use."""
    environment = f"{PIXI_FOLDER}/.pixi/envs/{layer.environment}"
    tools = f"{pixi_folder}/bin:" if pixi_folder else ""
    return {
        "VIRTUAL_ENV": environment,
        "UV_PYTHON": f"{environment}/bin/python",
        "PIXI_PROJECT_MANIFEST": f"{PIXI_FOLDER}/{layer.name}",
        "PATH": f"{environment}/bin:{tools}$PATH",
    }


def _apt(layer: layers.Apt) -> str:
    install = f"apt-get install -y --no-install-recommends {' '.join(layer.packages)}"
    return _run([_cache("/var/cache/apt", "apt"), *_secret_mounts(layer.secrets)], f"apt-get update && {install}")


# --- words of instructions


def _run(mounts: Iterable[str], command: str) -> str:
    return " \\\n    ".join(["RUN", *mounts, command]).replace("RUN \\\n    ", "RUN ", 1)


def _env(*assignments: str) -> str:
    return f"ENV {' '.join(assignments)}"


def env_value(name: str, value: str) -> str:
    """A value as `ENV` takes it. `$NAME` in it still stands for that variable, as with the SDK.

    Raises:
        ImageLayerInvalid: it has a line break, or the name is none.
    """
    if "\n" in value or "\r" in value:
        reason = f"the value of variable `{name}` has a line break, which a Dockerfile cannot say"
        raise ImageLayerInvalid(reason=reason, mend="set it in the environment's `env_vars` instead")
    if not re.fullmatch(r"[^\s=\"'\\$]+", name):
        raise ImageLayerInvalid(reason=f"`{name}` is no name of a variable", mend="correct it in `with_env_vars`")
    if re.fullmatch(r"[\w./:$@%+,={}~^*?!-]+", value, re.ASCII):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _cache(target: str, name: str) -> str:
    return f"--mount=type=cache,sharing=locked,mode=0777,target={target},id={name}"


def _bind(source: str, target: str, *options: str) -> str:
    return ",".join([f"--mount=type=bind,target={target},src={source}", *options])


def _secret_mounts(secrets: Iterable[Secret]) -> list[str]:
    return [
        f"--mount=type=secret,id={each.id},{f'target={each.mount}' if each.mount else f'env={each.variable}'}"
        for each in secrets
    ]


def _mounted(place: str) -> str:
    """Where a project is mounted: its place in the context, without the number of the layer."""
    return posixpath.join(_PROJECTS, beside_layer(place) or "project")


def _copy(source: str, destination: str, owner: str = "") -> str:
    words = ["COPY", *([f"--chown={owner}"] if owner else [])]
    paths = [_literal(source), destination]
    if any(re.search(r"\s", path) for path in paths):
        return " ".join([*words, json.dumps(paths, ensure_ascii=False)])
    return " ".join([*words, *paths])


def _literal(path: str) -> str:
    """A path as `COPY` takes its source: read like a word of a shell, then as a pattern where it looks like one."""
    if re.search(r"[\[*?]", path):
        path = re.sub(r"([\[*?])", r"[\1]", path.replace("\\", "\\\\"))
    return re.sub(r"([\\'\"$])", r"\\\1", path)
